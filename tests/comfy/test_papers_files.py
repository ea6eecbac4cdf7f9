"""Files of the papers' large networks, which no node runs, are refused with a way out."""

import pytest


@pytest.mark.parametrize("network", ["CogVideo", "SdxlUNet"])
def test_a_host_of_diffusers(comfy, network):
    from aqueduct.nodes._comfy.loading import check_loader  # once ComfyUI is there

    config = {"parts": {"model": {"architecture": network, "arguments": {}}}}
    with pytest.raises(ValueError, match=f"model.safetensors holds {network}, .*no node runs it.*AqueductTrainBridge"):
        check_loader("AqueductLoadBridgeModel", "model.safetensors", config)
