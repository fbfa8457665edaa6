# SPDX-License-Identifier: Apache-2.0
"""Public architectures with random weights, as ONNX files of both exporters of PyTorch; for ``bench/breadth.py``.

usage: python bench/breadth_models.py FOLDER [NAME...]

Runs where torch, torchvision, timm, ultralytics, segmentation-models-pytorch and transformers are installed; nothing
is downloaded. Prints one JSON object a line: what was exported, or why it could not be.
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

#: Operator sets of the two exporters: the one of scripts that people have, and the newest.
TORCHSCRIPT, DYNAMO = 17, 20

Made = tuple[Any, Sequence[Any]]


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
        from ultralytics import YOLO

        model = YOLO(f"{name}.yaml").model.float()
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
        made.config.return_dict = False
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
        return made, (given,)

    return make


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
        encoder_attention_heads=4, encoder_ffn_dim=128, max_source_positions=100)),
    ("transformers", "wav2vec2", transformer("Wav2Vec2Config", "Wav2Vec2Model", "sound", **_SMALL)),
    ("torch", "crnn", crnn),
    ("torch", "siamese tracker", siamese),
    ("torch", "espcn", espcn),
]  # fmt: skip


def _whisper_encoder(model: Any) -> Any:
    return model.encoder if type(model).__name__ == "WhisperModel" else model


def export(make: Callable[[], Made], path: Path, dynamo: bool) -> int:
    """Write the model; returns its operator set."""
    import torch

    torch.manual_seed(0)
    model, inputs = make()
    model = _whisper_encoder(model).eval()
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


def main(folder: Path, names: Sequence[str]) -> None:
    """Export every model: one in six with the newer exporter, and with the other one where that fails."""
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(MODELS)), key=lambda i: (i % 4, i))  # every library early
    for index in order:
        library, name, make = MODELS[index]
        if names and name not in names:
            continue
        path = folder / f"{index:03d}.onnx"
        if path.exists():
            continue
        for dynamo in (False, True) if index % 6 else (True, False):
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
            if "error" not in row:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
