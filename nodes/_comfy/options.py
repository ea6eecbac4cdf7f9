"""Keys of the pack in `transformer_options`, by which samplers and guiders talk to the networks that know them."""

# True: the prediction's gradient goes through the network's outermost level alone (`core.networks.UNet.forward`).
# Set by guidance in mode "outer"; read by the restoration models' network.
OUTER_KEY = "aqueduct_outer"
