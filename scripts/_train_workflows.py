"""What all workflows that train begin and end with: a dataset that is shown, and a trainer that is watched."""

from ._graph import Graph


def dataset(g: Graph, film, at: tuple[int, int], **settings):
    """A dataset of a film, with its report and its clips."""
    x, y = at
    data = g.add("AqueductVideoDataset", (x, y), images=film[0], **settings)
    g.add("PreviewAny", (x, y + 520), title="Report", source=data["report"])
    g.add("PreviewImage", (x, y + 710), title="Clips", images=data["preview"])
    return data


def watched(g: Graph, trained, at: tuple[int, int], title: str = "") -> None:
    """File, curve and samples of a trainer."""
    x, y = at
    g.add("PreviewImage", (x, y), title=f"Losses{title}", images=trained["losses"])
    g.add("PreviewImage", (x, y + 320), title=f"Samples{title}", images=trained["samples"])
    g.add("PreviewAny", (x, y + 640), title=f"File{title}", source=trained["file"])
