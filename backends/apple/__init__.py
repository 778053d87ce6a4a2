"""What the rooms for Apple's toolchains share."""
