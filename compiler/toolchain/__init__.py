"""Vendor toolkits in environments of their own: installed once per user, spoken to over a process with a time limit.

Torch-free. What a toolkit needs is a :class:`~fxc.compiler.toolchain.spec.Toolchain`, data of the room that uses it;
:mod:`~fxc.compiler.toolchain.install` and :mod:`~fxc.compiler.toolchain.remove` manage the environments, and
:mod:`~fxc.compiler.toolchain.worker` runs a script in one.
"""
