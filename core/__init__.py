"""The mathematics of Aqueduct in plain torch. Nothing here knows ComfyUI (a lint rule keeps it so).

Notation, shared by every module (see ``docs/concepts.md``):

* ``z_0`` data, ``z_T`` the prior (the other end of a bridge), ``eps`` standard normal noise.
* ``t`` bridge time in [0, 1]: 0 is data, 1 (called T) is the prior.
* ``std_...`` are standard deviations, ``var_...`` variances. ``c`` of a bridge is a standard deviation.
* Videos are ``[batch, channels, frames, height, width]``.
"""
