"""Editor workflows become API prompts by the front end's rules; what cannot be converted is named."""

import pytest

from aqueduct.scripts._console import HouseError
from aqueduct.scripts._workflow import find_nodes, set_input, to_prompt

INFO = {
    "LoadImage": {
        "display_name": "Load Image",
        "input": {"required": {"image": [["a.png", "b.png"], {"image_upload": True}]}},
    },
    "Sample": {
        "display_name": "Sample",
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"default": 0}],
                "steps": ["INT", {"default": 20}],
                "solver": ["COMBO", {"options": ["sde", "ode"]}],
            },
            "optional": {"mask": ["MASK", {}], "eta": ["FLOAT", {"default": 1.0}]},
        },
    },
    "LoadModel": {"display_name": "Load Model", "input": {"required": {"name": [["m.safetensors"]]}}},
    "Tracks": {
        "display_name": "Tracks",
        "input": {
            "required": {"image": ["IMAGE"], "tracks": ["TRACK_PATHS", {"default": "[]", "socketless": True}]},
            "optional": {"seed": ["INT", {"control_after_generate": False}], "scale": ["FLOAT", {"forceInput": True}]},
        },
    },
    "Upscale": {
        "display_name": "Upscale",
        "input": {"required": {"image": ["IMAGE"], "factor": ["FLOAT", {"default": 2.0}]}},
    },
}


def socket(name: str, link: int | None, kind: str = "MODEL") -> dict:
    return {"name": name, "type": kind, "link": link}


def widget(name: str, link: int | None = None, kind: str = "INT") -> dict:
    return {**socket(name, link, kind), "widget": {"name": name}}


def node(identity: int, kind: str, inputs=(), values=(), **more) -> dict:
    return {"id": identity, "type": kind, "inputs": list(inputs), "widgets_values": list(values), **more}


def convert(*nodes: dict, links: list = ()) -> dict:
    return to_prompt({"nodes": list(nodes), "links": list(links)}, INFO)


LOADER = node(1, "LoadModel", values=["m.safetensors"])
LINK = [7, 1, 0, 2, 0, "MODEL"]


def sampler(values=(5, "randomize", 30, "ode", 0.5), inputs=(), **more) -> dict:
    return node(2, "Sample", [socket("model", 7), *inputs], values, **more)


def test_widgets_by_position_with_the_seed_companion():
    prompt = convert(LOADER, sampler(title="My sampler"), links=[LINK])
    assert prompt["2"] == {
        "class_type": "Sample",
        "inputs": {"seed": 5, "steps": 30, "solver": "ode", "eta": 0.5, "model": ["1", 0]},
        "_meta": {"title": "My sampler"},
    }
    assert prompt["1"]["_meta"]["title"] == "Load Model"


def test_object_links_of_schema_1():
    link = {"id": 7, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "MODEL"}
    assert convert(LOADER, sampler(), links=[link])["2"]["inputs"]["model"] == ["1", 0]


def test_seed_without_companion():
    inputs = convert(LOADER, sampler(values=[5, 30, "sde", 0.5]), links=[LINK])["2"]["inputs"]
    assert (inputs["seed"], inputs["steps"]) == (5, 30)


def test_control_declared_off_has_no_companion():
    tracks = node(3, "Tracks", [socket("image", 8, "IMAGE")], ["[[1, 2]]", 9])
    prompt = convert(node(1, "LoadImage", values=["a.png", "image"]), tracks, links=[[8, 1, 0, 3, 0, "IMAGE"]])
    assert prompt["3"]["inputs"] == {"tracks": "[[1, 2]]", "seed": 9, "image": ["1", 0]}


def test_upload_button_is_no_input():
    for values in (["b.png", "image"], ["b.png"]):
        assert convert(node(1, "LoadImage", values=values))["1"]["inputs"] == {"image": "b.png"}


def test_link_replaces_the_value_of_a_converted_widget():
    steps = node(4, "Upscale", [socket("image", None, "IMAGE")], [3.0])
    links = [LINK, [9, 1, 0, 2, 1, "INT"]]
    prompt = convert(LOADER, sampler(inputs=[widget("steps", 9)]), links=links)
    assert prompt["2"]["inputs"]["steps"] == ["1", 0]
    assert prompt["2"]["inputs"]["solver"] == "ode"
    with pytest.raises(HouseError, match="node 4 .Upscale.: required input image"):
        convert(steps)


def test_values_the_saved_node_lacks_get_the_default():
    assert convert(LOADER, sampler(values=[5, "fixed", 30, "sde"]), links=[LINK])["2"]["inputs"]["eta"] == 1.0


def test_values_saved_by_name():
    named = {**sampler(), "widgets_values": {"seed": 1, "steps": 2, "solver": "sde", "eta": 0.0, "preview": "x"}}
    inputs = convert(LOADER, named, links=[LINK])["2"]["inputs"]
    assert inputs == {"seed": 1, "steps": 2, "solver": "sde", "eta": 0.0, "model": ["1", 0]}


def test_list_values_are_wrapped_so_that_they_are_no_links():
    values = convert(LOADER, sampler(values=[5, "fixed", 30, ["a", 0], 0.5]), links=[LINK])["2"]["inputs"]
    assert values["solver"] == {"__value__": ["a", 0]}


def test_notes_reroutes_and_primitives_leave_no_node():
    nodes = [
        *(node(5, "Note", values=["hello"]), node(6, "MarkdownNote", values=["hello"])),
        node(3, "Reroute", [socket("", 10, "*")]),
        node(8, "PrimitiveNode", values=[44, "fixed"]),
    ]
    links = [[10, 1, 0, 3, 0, "*"], [7, 3, 0, 2, 0, "MODEL"], [11, 8, 0, 2, 1, "INT"]]
    prompt = convert(LOADER, sampler(inputs=[widget("steps", 11)]), *nodes, links=links)
    assert set(prompt) == {"1", "2"}
    assert prompt["2"]["inputs"]["model"] == ["1", 0]
    assert prompt["2"]["inputs"]["steps"] == 44


def test_bypassed_nodes_hand_their_input_on():
    image = node(1, "LoadImage", values=["a.png", "image"])
    first = node(2, "Upscale", [socket("image", 1, "IMAGE")], [2.0], mode=4, outputs=[{"type": "IMAGE"}])
    second = node(3, "Upscale", [socket("image", 2, "IMAGE")], [3.0])
    prompt = convert(image, first, second, links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]])
    assert set(prompt) == {"1", "3"}
    assert prompt["3"]["inputs"]["image"] == ["1", 0]


def test_muted_nodes_vanish_with_their_links():
    masked = sampler(inputs=[socket("mask", 12, "MASK")])
    muted = node(3, "LoadImage", values=["a.png"], mode=2)
    prompt = convert(LOADER, masked, muted, links=[LINK, [12, 3, 1, 2, 1, "MASK"]])
    assert set(prompt) == {"1", "2"} and "mask" not in prompt["2"]["inputs"]


@pytest.mark.parametrize(
    ("nodes", "links", "message"),
    [
        ([node(9, "Unknown")], [], r"node 9 \(Unknown\): the server has no such node"),
        ([sampler()], [], r"node 2 \(Sample\): input model has link 7, which the workflow lacks"),
        ([sampler()], [LINK], r"input model comes from node 1, which does not exist"),
        ([{**LOADER, "mode": 2}, sampler()], [LINK], r"required input model has neither a link nor a value"),
        ([LOADER, sampler(values=[5, "fixed", 30, "sde", 0.5, 99])], [LINK], r"unexplained: \[99\]"),
        ([node(3, "Reroute", [socket("", 7)]), sampler()], [[7, 3, 0, 3, 0, "*"]], r"loop of reroutes"),
    ],
)
def test_unresolved_parts_are_named(nodes, links, message):
    with pytest.raises(HouseError, match=message):
        convert(*nodes, links=links)


def test_subgraphs_are_refused_with_advice():
    workflow = {"nodes": [node(1, "uuid")], "links": [], "definitions": {"subgraphs": [{"id": "uuid"}]}}
    with pytest.raises(HouseError, match="it is a subgraph: unpack it"):
        to_prompt(workflow, INFO)


def test_set_input_by_class_or_title():
    prompt = convert(LOADER, sampler(title="My sampler"), links=[LINK])
    set_input(prompt, "Sample", "steps", 3)
    set_input(prompt, "My sampler", "seed", 4)
    assert (prompt["2"]["inputs"]["steps"], prompt["2"]["inputs"]["seed"]) == (3, 4)
    assert find_nodes(prompt, "Sample") == ["2"]


def test_set_input_explains_what_it_cannot_set():
    prompt = convert(LOADER, {**LOADER, "id": 5})
    with pytest.raises(HouseError, match="nodes 1, 5 match; use a title"):
        set_input(prompt, "LoadModel", "name", "x")
    with pytest.raises(HouseError, match='no node matches.*LoadModel "Load Model"'):
        set_input(prompt, "Sampel", "steps", 1)
    with pytest.raises(HouseError, match="its inputs are name"):
        set_input(convert(LOADER), "LoadModel", "nmae", "x")
