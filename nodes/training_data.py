"""What to train on."""

from comfy_api.latest import io

from ..core.data.buckets import RATIOS, SizeSettings
from ..core.data.prepare import MotionSettings, PrepareSettings
from ..core.data.survey import ClipSettings
from ..core.plots.contact import contact_sheet
from ._comfy.dataset import Dataset, conditioned, fingerprint, folders_of, prepared, told
from ._comfy.schema import CATEGORY, DATASET, Schema

PREVIEWED = 24  # clips on the contact sheet


class AqueductVideoDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductVideoDataset",
            display_name="Video Dataset",
            category=f"{CATEGORY}/training",
            description=(
                "Clips to train on: decoded, cut to size, encoded by the VAE, and kept on the disk for the next time."
            ),
            search_aliases=["load training data", "video folder", "latent dataset", "captions", "bucketing"],
            inputs=[
                io.String.Input("folder", default="", multiline=True, tooltip=(
                    "Folder of videos (mp4, mov, webm, mkv, gif, avi), of numbered frames, or of pictures: a full "
                    "path, or one in ComfyUI's input folder; several in a line each. Subfolders count too; if all lies "
                    "in subfolders they are the classes, and so are several folders. A caption is a .txt of the same "
                    "name beside its file"
                )),
                io.Image.Input("images", optional=True, tooltip="Frames of one more clip, or instead of a folder"),
                io.Vae.Input("vae", optional=True, tooltip=(
                    "The VAE of the MODEL to be trained: of video or of images. None: the model works on pixels"
                )),
                io.Clip.Input("clip", optional=True, tooltip="Text encoder of the MODEL, for the captions"),
                io.Int.Input("width", default=256, min=16, max=8192, step=8, tooltip=(
                    "Pixels; clips are scaled to cover the size and cut around their middle. FrameBridge: 256"
                )),
                io.Int.Input("height", default=256, min=16, max=8192, step=8, tooltip="Pixels. FrameBridge: 256"),
                io.Int.Input("frames", default=17, min=1, max=1025, tooltip=(
                    "Frames of a clip; longer videos give several clips, shorter ones none. Video VAEs take 1 plus a "
                    "multiple: of 4 for Wan, of 8 for LTXV. 1: pictures. FrameBridge: 16; its released CogVideoX "
                    "model: 17"
                )),
                io.Int.Input("stride", default=1, min=1, max=64, tooltip="Every n-th frame is taken. FrameBridge: 3"),
                io.Float.Input("fps", default=0.0, min=0.0, max=240.0, step=0.5, tooltip=(
                    "Frames a second, taken by the video's time stamps before stride; 0: all frames as they come"
                )),
                io.Int.Input("clips_per_file", default=0, min=0, max=100000, tooltip=(
                    "The most clips that are taken of one file, evenly spread; 0: as many as fit end to end"
                )),
                io.Boolean.Input("buckets", default=False, tooltip=(
                    "Also sizes of the same area in other aspect ratios, from 1:2 to 2:1; each clip goes to the size "
                    "that loses least of it, and a batch is of one size. Off: all are cut to width x height"
                )),
                io.Boolean.Input("motion", default=False, tooltip=(
                    "Also measure the optical flow in both directions and where it is consistent (EMG, section 4.2), "
                    "for training on motion: by DIS, which is in OpenCV and needs no weights. EMG: RAFT"
                )),
                io.String.Input("caption", default="", multiline=True, tooltip=(
                    "Caption of the clips that have none of their own"
                )),
            ],
            outputs=[
                DATASET.Output(display_name="dataset"),
                io.String.Output(display_name="report"),
                io.Image.Output(display_name="preview"),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, folder=None, **others):
        try:
            return [fingerprint(one) for one in folders_of(folder or "")]
        except (FileNotFoundError, ValueError):  # said when the node runs
            return "missing"

    @classmethod
    def execute(
        cls, folder, width, height, frames, stride, fps, clips_per_file, buckets, motion, caption,
        images=None, vae=None, clip=None,
    ):  # fmt: skip
        settings = PrepareSettings(
            ClipSettings((frames,), fps, stride, most=clips_per_file),
            SizeSettings(width, height, RATIOS if buckets else ()),
            MotionSettings() if motion else None,
            threads=0,
        )
        folders = folders_of(folder)
        latents = prepared(folders, images, caption.strip(), vae, settings)
        about = told(latents, folders)
        shown = range(min(PREVIEWED, len(latents)))
        pictures = [latents.tensor(n, "first") / 255 for n in shown]
        captions = [_label(latents.index.clips[n]) for n in shown]
        dataset = Dataset(latents, conditioned(latents, clip), about.splitlines()[0])
        return io.NodeOutput(dataset, about, contact_sheet(pictures, captions))


def _label(clip) -> str:
    """Under its picture; of several clips of one file each says where it begins."""
    return clip.caption or (f"{clip.path}, frame {clip.first}" if clip.first else clip.path)


NODES = [AqueductVideoDataset]
