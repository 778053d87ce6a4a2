"""Models the tests share: alive ones, structured inputs for them, and the measures that compare their outputs."""
