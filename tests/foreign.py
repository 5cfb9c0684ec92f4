"""Small CLIPs of other libraries with random weights, saved by these libraries themselves."""

import io
import json
import warnings
from types import SimpleNamespace

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import open_clip
    import sentencepiece
    import transformers
    from open_clip.push_to_hf_hub import save_for_hf
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = (
    "a photo of a dog small ring king of hearts sun x wheel polka dotted centered lily of the "
    "valley boeing 747 400 st . - texture"
).split()
CONTEXT = 24
TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32}
TIMM = {"timm_pool": "avg", "timm_proj": "linear"}
PIECES = {**TEXT, "hf_tokenizer_name": "here", "vocab_size": 200}
SIGLIP = {
    "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"}, "tokenizer_kwargs": {"clean": "canonicalize"},
}  # fmt: skip
COCA = {"context_length": CONTEXT - 1, "width": 64, "heads": 2, "layers": 1}

OPEN_CLIP = {  # what stands for LAION's, DataComp's, MetaCLIP's, DFN's ... : configuration
    "vit": {"text_cfg": TEXT, "vision_cfg": VISION},
    "quickgelu": {"text_cfg": TEXT, "vision_cfg": VISION, "quick_gelu": True},
    "resnet": {
        "text_cfg": TEXT,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16},
    },
    "layer scale": {
        "text_cfg": {**TEXT, "ls_init_value": 0.7}, "vision_cfg": {**VISION, "ls_init_value": 0.7},
        "custom_text": True,
    },
    "eva02": {
        "custom_text": True, "text_cfg": TEXT,
        "vision_cfg": {
            "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token",
            "timm_proj": "linear", "image_size": 224,
        },
    },
    "mobileclip": {
        "custom_text": True, "text_cfg": {**TEXT, "no_causal_mask": True},
        "vision_cfg": {**TIMM, "timm_model_name": "fastvit_t8", "image_size": 64},
    },
    "coca": {
        "custom_text": True, "multimodal_cfg": COCA,
        "text_cfg": {**TEXT, "context_length": CONTEXT - 1, "embed_cls": True,
                     "output_tokens": True},
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2,
                       "output_tokens": True},
    },
    "siglip": {
        "custom_text": True, "init_logit_bias": -3.0, "text_cfg": {**PIECES, **SIGLIP},
        "vision_cfg": VISION,
    },
    "clipa": {
        "text_cfg": {**PIECES, "no_causal_mask": True, "pool_type": "last",
                     "tokenizer_kwargs": {"strip_sep_token": True}},
        "vision_cfg": {**VISION, "pool_type": "avg"},
    },
    "worldwide": {
        "custom_text": True, "vision_cfg": VISION,
        "text_cfg": {**PIECES, "pool_type": "eos", "eos_id": 2},
    },
}  # fmt: skip
HF_TEXT = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 2,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip
HF_VISION = {
    "hidden_size": 64, "intermediate_size": 80, "num_attention_heads": 2, "num_hidden_layers": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
HF = ("clip", "clip of old", "siglip", "siglip2")
PLAIN = {"mobileclip", "siglip", "clipa", "siglip2"}  # every class is encoded whole


def randomised(model, seed=0):
    """The model in evaluation mode with values that all matter: no zeros, no ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "logit" not in name:
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        for name, value in model.named_buffers():
            if "running" in name:
                value.add_(0.1 * torch.rand(value.shape, generator=generator))
    return model.eval()


def piece_tokenizer(folder):
    """SigLIP's tokenizer with a small SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20 + [" ".join(WORDS)] * 20), model_writer=model,
        vocab_size=64, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        minloglevel=2,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "pieces.model").write_bytes(model.getvalue())
    return transformers.SiglipTokenizer(
        vocab_file=str(folder / "pieces.model"), model_max_length=CONTEXT
    )


def word_tokenizer():
    """Words as tokens, framed as those of RoBERTa."""
    start, pad, end = names = ["<s>", "<pad>", "</s>"]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*names, "<unk>", *WORDS]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, sep_token=end, pad_token=pad,
        unk_token="<unk>",
    )  # fmt: skip


def gemma_tokenizer():
    """SigLIP 2's: a space belongs to the word behind it; padding on the left."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    merges, vocabulary = [], [*names, "\u2581", *sorted(set("".join(WORDS)))]
    for word in dict.fromkeys(WORDS):
        pairs = [(word[:i], word[i]) for i in range(1, len(word))] + [("\u2581", word)]
        merges += [pair for pair in pairs if pair not in merges]
        vocabulary += ["".join(pair) for pair in pairs]
    tokenizer = transformers.Siglip2Tokenizer(
        vocab={w: i for i, w in enumerate(dict.fromkeys(vocabulary))}, merges=merges,
        model_max_length=CONTEXT, padding_side="left",
    )  # fmt: skip
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


def bpe_tokenizer():
    """CLIP's tokenizer with the letters and a few words."""
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    merges, vocabulary = [], [*letters, *(f"{c}</w>" for c in letters)]
    for word in dict.fromkeys(WORDS):
        for i in range(1, len(word)):
            pair = (word[:i], word[i] + ("</w>" if i + 1 == len(word) else ""))
            if pair not in merges:
                merges.append(pair)
                vocabulary.append("".join(pair))
    vocabulary = list(dict.fromkeys(vocabulary)) + ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={w: i for i, w in enumerate(vocabulary)}, merges=merges, model_max_length=CONTEXT
    )


def save_open_clip(kind, folder):
    """Save a model in open_clip's form; what it and its tokenizer compute, as `Theirs`."""
    config = {"embed_dim": 48, **OPEN_CLIP[kind]}
    folder.mkdir()
    tokenizer = SimpleNamespace(save_pretrained=lambda place: None)
    if "hf_tokenizer_name" in config["text_cfg"]:
        made = piece_tokenizer(folder / "made") if kind == "siglip" else word_tokenizer()
        made.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3}})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        save_for_hf(randomised(model), tokenizer, config, folder, safe_serialization=True)
        theirs = open_clip.get_tokenizer(f"local-dir:{folder}")
    tower = getattr(model, "text", model)
    return SimpleNamespace(
        name=f"open_clip:{folder}", folder=folder, model=model, tokens=theirs,
        embedding=tower.token_embedding, layers=tower.transformer.resblocks,
        encode_image=model.encode_image, encode_text=model.encode_text,
        mean=(0.4,) * 3, std=(0.3,) * 3,
        size=model.visual.image_size if isinstance(model.visual.image_size, int)
        else model.visual.image_size[0],
    )  # fmt: skip


def save_hf(kind, folder):
    """The same of a model in the form of transformers."""
    text, vision = {**HF_TEXT, "bos_token_id": 0, "eos_token_id": 1}, dict(HF_VISION)
    tokenizer = bpe_tokenizer()
    if kind.startswith("clip"):
        end = 2 if kind == "clip of old" else tokenizer.eos_token_id
        text |= {"vocab_size": len(tokenizer), "eos_token_id": end, "bos_token_id": 0}
        text["hidden_act"] = "gelu" if kind == "clip of old" else "quick_gelu"
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=48)
        model, processor = transformers.CLIPModel(config), transformers.CLIPImageProcessor()
    elif kind == "siglip":
        tokenizer = piece_tokenizer(folder.with_name(f"{folder.name} pieces"))
        config = transformers.SiglipConfig(
            text_config={**text, "vocab_size": 100, "projection_size": 64}, vision_config=vision
        )
        model, processor = transformers.SiglipModel(config), transformers.SiglipImageProcessor()
    else:
        tokenizer = gemma_tokenizer()
        vision = {k: v for k, v in vision.items() if k != "image_size"} | {"num_patches": 16}
        config = transformers.Siglip2Config(
            text_config={**text, "vocab_size": 300, "projection_size": 64}, vision_config=vision
        )
        model, processor = transformers.Siglip2Model(config), transformers.Siglip2ImageProcessor()
    model = randomised(model)
    if hasattr(model, "logit_bias"):
        model.logit_bias.data.fill_(-1.5)
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)  # as its users have it

    def tokens(texts):
        return tokenizer(
            texts, padding="max_length", max_length=CONTEXT, return_tensors="pt"
        ).input_ids

    def encode_image(images):
        if kind == "siglip2":
            images = patches_by_their_code(images)
            return model.get_image_features(**images).pooler_output
        return model.get_image_features(pixel_values=images).pooler_output

    return SimpleNamespace(
        name=f"hf:{folder}", folder=folder, model=model, tokens=tokens, size=32,
        embedding=model.text_model.embeddings.token_embedding,
        layers=model.text_model.encoder.layers, encode_image=encode_image,
        encode_text=lambda ids: model.get_text_features(input_ids=ids).pooler_output,
        mean=tuple(processor.image_mean), std=tuple(processor.image_std),
    )  # fmt: skip


def patches_by_their_code(images):
    """Inputs of Siglip2Model, with its own function that cuts an image into patches."""
    from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

    return {
        "pixel_values": torch.stack([convert_image_to_patches(image, 8) for image in images]),
        "pixel_attention_mask": torch.ones(len(images), 16, dtype=torch.long),
        "spatial_shapes": torch.full((len(images), 2), 4),
    }
