# SPDX-License-Identifier: Apache-2.0
"""Public architectures with random weights, as ONNX files of both exporters of PyTorch; for ``bench/breadth.py``.

usage: python bench/breadth_models.py FOLDER [--both] [NAME...]

Runs where torch, torchvision, timm, ultralytics, segmentation-models-pytorch and transformers are installed; nothing
is downloaded. Without --both every model has a file of one exporter, one in six of the newer one; with it a second file
of the other exporter too. Prints one JSON object a line: what was exported, or why it could not be.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: Operator sets of the two exporters: the one of scripts that people have, and the newest that it writes.
TORCHSCRIPT, DYNAMO = 17, 23

Made = tuple[Any, Sequence[Any]]


def _complete_torchvision() -> None:
    """Give torchvision the operators that it lacks where its library is built for another PyTorch than there is.

    Only what these networks call, in Python: the exporters write the operators of ONNX for them all the same.
    """
    import torch

    if hasattr(torch.ops.torchvision, "nms") or _loads_torchvision():
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    )
    import torchvision

    torchvision.extension._has_ops = _has_operators
    library.impl("nms", _kept_boxes, "CPU")
    library.impl("roi_align", _aligned, "CPU")
    _HELD.append(library)


def _has_operators() -> bool:
    return True


#: Libraries of operators last as long as these.
_HELD: list[Any] = []


def _loads_torchvision() -> bool:
    try:
        import torchvision
    except RuntimeError:  # its declarations of operators that are not there
        import sys

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return bool(torchvision.extension._has_ops())


def _kept_boxes(boxes: Any, scores: Any, limit: float) -> Any:
    """Non-maximum suppression: the boxes that no better one overlaps by more than the limit, best first."""
    import torch

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting, kept = scores.argsort(descending=True, stable=True), []
    while waiting.numel():
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low, high = torch.max(boxes[best, :2], boxes[waiting, :2]), torch.min(boxes[best, 2:], boxes[waiting, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        hidden = shared / (area[best] + area[waiting] - shared) > limit  # of two empty boxes: no number, not hidden
        waiting = waiting[~hidden]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


def _aligned(features: Any, boxes: Any, scale: float, height: int, width: int, samples: int, aligned: bool) -> Any:
    """Regions of features, each pooled to one size (torchvision's own definition in Python)."""
    from torchvision.ops.roi_align import _roi_align

    return _roi_align(features, boxes, scale, height, width, samples, aligned)


def _picture(size: int, batch: int = 1) -> Any:
    import torch

    return torch.rand(batch, 3, size, size)


def torchvision(name: str, size: int = 64, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        import torchvision.models as models

        family = models
        for part in ("segmentation", "video", "detection"):
            if hasattr(getattr(models, part), name):
                family = getattr(models, part)
        sized = {"image_size": size} if name.startswith("vit_") else {}
        extra = {"weights_backbone": None} if family is not models and family is not models.video else {}
        model = getattr(family, name)(weights=None, **sized, **extra, **options)
        return model, (_picture(size),)

    return make


def clip(name: str, frames: int = 8, size: int = 64) -> Callable[[], Made]:
    def make() -> Made:
        import torch
        import torchvision.models.video as models

        return getattr(models, name)(weights=None), (torch.rand(1, 3, frames, size, size),)

    return make


def timm(name: str, size: int = 64, fixed: bool = False) -> Callable[[], Made]:
    def make() -> Made:
        import timm as package

        options = {"img_size": size} if fixed else {}
        return package.create_model(name, pretrained=False, exportable=True, **options), (_picture(size),)

    return make


def ultralytics(name: str, size: int = 64) -> Callable[[], Made]:
    def make() -> Made:
        import ultralytics as package

        family = package.RTDETR if name.startswith("rtdetr") else package.YOLO
        model = family(f"{name}.yaml").model.float()
        head = model.model[-1]
        head.export, head.format = True, "onnx"
        for part in model.modules():
            if hasattr(part, "dynamic"):
                part.dynamic = False
        return model, (_picture(size),)

    return make


def segmentation(name: str, encoder: str = "resnet18", size: int = 64) -> Callable[[], Made]:
    def make() -> Made:
        import segmentation_models_pytorch as smp

        return getattr(smp, name)(encoder, encoder_weights=None, classes=5), (_picture(size),)

    return make


def transformer(config: str, model: str, inputs: str = "tokens", **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        import torch
        import transformers

        settings = getattr(transformers, config)(**options)
        settings._attn_implementation = "eager"
        made = getattr(transformers, model)(settings)
        if hasattr(made.config, "use_cache"):
            made.config.use_cache = False
        if inputs == "tokens":
            given = torch.randint(0, 64, (1, 16))
        elif inputs == "sound":
            given = torch.rand(1, 4000)
        elif inputs == "mel":
            given = torch.rand(1, 80, 200)
        else:
            given = _picture(int(inputs))
        return _tensors_of(made), (given,)

    return make


def _tensors_of(model: Any) -> Any:
    """A model of transformers that gives the tensors of its result, which both exporters take."""
    import torch

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.encoder if type(model).__name__ == "WhisperModel" else model

        def forward(self, given: Any) -> Any:
            return tuple(t for t in self.model(given).to_tuple() if isinstance(t, torch.Tensor))

    return Plain()


def detr() -> Made:
    """Queries that a decoder turns into boxes, behind convolutions of its own."""
    import transformers

    backbone = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    settings = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=64,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128,
        decoder_ffn_dim=128, num_queries=10, num_labels=5,
    )  # fmt: skip
    settings._attn_implementation = "eager"
    return _tensors_of(transformers.DetrForObjectDetection(settings)), (_picture(64),)


def crnn() -> Made:
    """Text recognition: convolutions, then an LSTM in both directions over the columns."""
    from torch import nn

    class Recognizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d((1, 16)),
            )
            self.sequence = nn.LSTM(32, 24, bidirectional=True, batch_first=True)
            self.classes = nn.Linear(48, 37)

        def forward(self, x: Any) -> Any:
            return self.classes(self.sequence(self.features(x).squeeze(2).permute(0, 2, 1))[0])

    return Recognizer(), (_picture(64),)


def siamese() -> Made:
    """A tracker: the template's features are the kernel of a convolution over the picture's."""
    import torch
    from torch import nn

    class Tracker(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2))

        def forward(self, template: Any, picture: Any) -> Any:
            return torch.nn.functional.conv2d(self.features(picture), self.features(template))

    return Tracker(), (_picture(32), _picture(64))


def espcn() -> Made:
    from torch import nn

    layers = [nn.Conv2d(1, 32, 5, 1, 2), nn.Tanh(), nn.Conv2d(32, 16, 3, 1, 1), nn.Tanh(), nn.Conv2d(16, 9, 3, 1, 1)]
    return nn.Sequential(*layers, nn.PixelShuffle(3), nn.Sigmoid()), (_picture(32)[:, :1],)


_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_TINY = {**_SMALL, "vocab_size": 128, "max_position_embeddings": 64}
_EYE = {**_SMALL, "image_size": 64}

#: Library, name, and what makes the model and its inputs.
MODELS: list[tuple[str, str, Callable[[], Made]]] = [
    *(("torchvision", name, torchvision(name)) for name in (
        "resnet18", "resnext50_32x4d", "alexnet", "vgg11_bn", "densenet121", "googlenet", "mobilenet_v2",
        "mobilenet_v3_small", "shufflenet_v2_x1_0", "squeezenet1_1", "mnasnet1_0", "efficientnet_b0",
        "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf", "convnext_tiny", "swin_t", "swin_v2_t",
        "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50",
    )),
    ("torchvision", "inception_v3", torchvision("inception_v3", 96)),
    ("torchvision", "vit_b_16", torchvision("vit_b_16")),
    ("torchvision", "maxvit_t", torchvision("maxvit_t", 224)),
    *(("torchvision", name, clip(name)) for name in ("r3d_18", "mc3_18", "r2plus1d_18")),
    ("torchvision", "s3d", clip("s3d", 16)),
    ("torchvision", "ssdlite320_mobilenet_v3_large", torchvision("ssdlite320_mobilenet_v3_large", 320)),
    ("torchvision", "retinanet_resnet50_fpn", torchvision("retinanet_resnet50_fpn", 128)),
    *(("timm", name, timm(name)) for name in (
        "resnet10t.c3_in1k", "seresnet50", "ecaresnet26t", "res2net50_14w_8s", "skresnet18", "selecsls42b", "dla34",
        "hrnet_w18_small", "ese_vovnet19b_dw", "repvgg_a0", "mobileone_s0", "ghostnet_100", "mixnet_s", "tinynet_e",
        "lcnet_050", "rexnet_100", "hardcorenas_a", "mobilenetv4_conv_small", "mobilenetv4_hybrid_medium",
        "tf_efficientnetv2_b0", "efficientnet_lite0", "cspresnet50", "darknet53", "eca_nfnet_l0", "convnextv2_atto",
        "convmixer_768_32", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "fastvit_t8", "efficientvit_b0",
        "poolformer_s12", "inception_next_tiny", "starnet_s1", "repghostnet_050", "efficientnet_es", "regnetz_b16",
        "nf_regnet_b0", "gcresnet33ts", "halonet26t", "visformer_tiny",
    )),
    *(("timm", name, timm(name, 224)) for name in (
        "efficientformer_l1", "efficientvit_m0", "levit_128s", "pvt_v2_b0", "coat_lite_tiny", "xcit_nano_12_p16_224",
        "twins_svt_small", "davit_tiny", "focalnet_tiny_srf", "tiny_vit_5m_224", "crossvit_tiny_240",
        "tnt_s_patch16_224", "sequencer2d_s", "resmlp_12_224", "convit_tiny", "botnet26t_256",
    )),
    *(("timm", name, timm(name, 64, True)) for name in (
        "vit_tiny_patch16_224", "deit_tiny_patch16_224", "cait_xxs24_224", "mixer_s32_224", "gmlp_s16_224",
        "beit_base_patch16_224", "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224", "nest_tiny",
    )),
    *(("ultralytics", name, ultralytics(name)) for name in (
        "yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolov9t", "yolov10n", "yolo11n",
        "yolo11n-seg", "yolo12n", "yolov3-tiny", "yolov5n", "yolov6n", "rtdetr-l",
    )),
    *(("segmentation-models", name, segmentation(name)) for name in (
        "Unet", "UnetPlusPlus", "FPN", "PSPNet", "Linknet", "PAN", "DeepLabV3Plus", "MAnet", "UPerNet", "Segformer",
    )),
    ("segmentation-models", "Unet-mobilenet_v2", segmentation("Unet", "mobilenet_v2")),
    ("transformers", "bert", transformer("BertConfig", "BertModel", **_TINY)),
    ("transformers", "roberta", transformer("RobertaConfig", "RobertaModel", **_TINY)),
    ("transformers", "electra", transformer("ElectraConfig", "ElectraModel", **_TINY)),
    ("transformers", "albert", transformer("AlbertConfig", "AlbertModel", **_TINY)),
    ("transformers", "distilbert", transformer(
        "DistilBertConfig", "DistilBertModel", dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=128)),
    ("transformers", "t5-encoder", transformer(
        "T5Config", "T5EncoderModel", d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=128)),
    ("transformers", "gpt2", transformer(
        "GPT2Config", "GPT2Model", n_embd=64, n_layer=2, n_head=4, vocab_size=128, n_positions=64)),
    ("transformers", "clip-vision", transformer("CLIPVisionConfig", "CLIPVisionModel", "64", patch_size=16, **_EYE)),
    ("transformers", "clip-text", transformer("CLIPTextConfig", "CLIPTextModel", **_TINY)),
    ("transformers", "siglip-vision", transformer(
        "SiglipVisionConfig", "SiglipVisionModel", "64", patch_size=16, **_EYE)),
    ("transformers", "dinov2", transformer(
        "Dinov2Config", "Dinov2Model", "70", patch_size=14, **{**_EYE, "image_size": 70})),
    ("transformers", "vit", transformer("ViTConfig", "ViTModel", "64", **_EYE)),
    ("transformers", "yolos", transformer(
        "YolosConfig", "YolosForObjectDetection", "64", **{**_EYE, "image_size": [64, 64]})),
    ("transformers", "segformer", transformer("SegformerConfig", "SegformerForSemanticSegmentation", "64")),
    ("transformers", "convnextv2", transformer(
        "ConvNextV2Config", "ConvNextV2Model", "64", hidden_sizes=[16, 32, 48, 64])),
    ("transformers", "mobilevit", transformer("MobileViTConfig", "MobileViTModel", "64")),
    ("transformers", "poolformer", transformer("PoolFormerConfig", "PoolFormerModel", "64")),
    ("transformers", "whisper-encoder", transformer(
        "WhisperConfig", "WhisperModel", "mel", d_model=64, encoder_layers=2, decoder_layers=1,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, max_source_positions=100)),
    ("transformers", "wav2vec2", transformer("Wav2Vec2Config", "Wav2Vec2Model", "sound", **_SMALL)),
    ("torch", "crnn", crnn),
    ("torch", "siamese tracker", siamese),
    ("torch", "espcn", espcn),
    # Added later, at the end so that the files before keep their numbers.
    ("torchvision", "ssd300_vgg16", torchvision("ssd300_vgg16", 300)),
    *(("torchvision", name, torchvision(name, 128, min_size=128, max_size=128)) for name in (
        "fcos_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn",
    )),
    *(("ultralytics", name, ultralytics(name)) for name in (
        "yolo26n", "yolo11n-pose", "yolo11n-obb", "yolo11n-cls", "yolo12n-seg", "yolo12n-pose", "yolov9c-seg",
        "yolov10s", "yolov8n-p2", "yolov8-ghost", "yolov3-spp", "yolov5n-p6",
    )),
    ("ultralytics", "rtdetr-resnet50", ultralytics("rtdetr-resnet50", 128)),
    ("transformers", "detr", detr),
    ("transformers", "segformer-b0", transformer("SegformerConfig", "SegformerForSemanticSegmentation", "128")),
    ("transformers", "vit-classifier", transformer("ViTConfig", "ViTForImageClassification", "64", **_EYE)),
    ("transformers", "deit", transformer("DeiTConfig", "DeiTModel", "64", **_EYE)),
    ("transformers", "resnet", transformer(
        "ResNetConfig", "ResNetModel", "64", embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1])),
    ("transformers", "mobilenet-v2", transformer("MobileNetV2Config", "MobileNetV2Model", "64")),
    ("transformers", "swin", transformer(
        "SwinConfig", "SwinModel", "64", image_size=64, patch_size=2, embed_dim=24, depths=[1, 2],
        num_heads=[2, 4], window_size=4)),
    ("transformers", "dpt", transformer(
        "DPTConfig", "DPTForDepthEstimation", "64", patch_size=16, backbone_out_indices=[0, 0, 1, 1],
        neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=32, **_EYE)),
    ("transformers", "vit-mae", transformer("ViTMSNConfig", "ViTMSNModel", "64", **_EYE)),
    ("transformers", "mpnet", transformer("MPNetConfig", "MPNetModel", **_TINY)),
    *(("timm", name, timm(name)) for name in (
        "hgnetv2_b0", "repvit_m0_9", "mambaout_femto", "rdnet_tiny", "fasternet_t0", "convnext_zepto_rms",
        "swiftformer_xs", "nextvit_small", "mobilenetv3_small_050", "efficientvit_l1", "resnetv2_18", "vovnet39a",
    )),
    *(("timm", name, timm(name, 224)) for name in ("shvit_s1", "hiera_tiny_224", "mvitv2_tiny", "pit_ti_224")),
    *(("timm", name, timm(name, 64, True)) for name in (
        "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "vit_tiny_r_s16_p8_224", "test_vit", "vitamin_small_224",
    )),
    *(("segmentation-models", f"{name}-{encoder}", segmentation(name, encoder)) for name, encoder in (
        ("Unet", "mit_b0"), ("Unet", "efficientnet-b0"), ("Segformer", "mit_b0"), ("DeepLabV3", "resnet18"),
        ("UnetPlusPlus", "mobilenet_v2"), ("FPN", "timm-regnetx_002"), ("DPT", "tu-vit_tiny_patch16_224"),
    )),
]  # fmt: skip


def export(make: Callable[[], Made], path: Path, dynamo: bool) -> int:
    """Write the model; returns its operator set."""
    import torch

    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    for norm in model.modules():  # statistics that look measured
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm) and norm.running_var is not None:
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
    opset = DYNAMO if dynamo else TORCHSCRIPT
    with torch.no_grad():
        if dynamo:
            torch.onnx.export(
                model, tuple(inputs), str(path), opset_version=opset, dynamo=True, external_data=False, verbose=False
            )
        else:
            torch.onnx.export(model, tuple(inputs), str(path), opset_version=opset, dynamo=False)
    return opset


def _one(index: int, path: Path, dynamo: bool) -> bool:
    """Export one model with one exporter, and print how that went."""
    library, name, make = MODELS[index]
    row: dict[str, Any] = {"library": library, "name": name, "exporter": "dynamo" if dynamo else "TorchScript"}
    start = time.monotonic()
    try:
        row["opset"] = export(make, path.with_suffix(".part"), dynamo)
        row["seconds"] = round(time.monotonic() - start, 1)
        path.with_suffix(".json").write_text(json.dumps(row))
        os.replace(path.with_suffix(".part"), path)
    except Exception as error:  # noqa: BLE001 - another package's code
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    print(json.dumps(row), flush=True)
    return "error" not in row


def main(folder: Path, names: Sequence[str], both: bool) -> None:
    """Export every model: one in six with the newer exporter, and with the other one where that fails, or ``both``."""
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    _complete_torchvision()
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(MODELS)), key=lambda i: (i % 4, i))  # every library early
    for index in order:
        if names and MODELS[index][1] not in names:
            continue
        path = folder / f"{index:03d}.onnx"
        first = index % 6 == 0
        if not path.exists():
            done = _one(index, path, first)
            if not done:
                _one(index, path, not first)
        second = folder / f"{index:03d}b.onnx"
        if both and path.exists() and not second.exists():
            used = json.loads(path.with_suffix(".json").read_text())["exporter"]
            _one(index, second, used == "TorchScript")


if __name__ == "__main__":
    wanted = sys.argv[2:]
    main(Path(sys.argv[1]), [name for name in wanted if name != "--both"], "--both" in wanted)
