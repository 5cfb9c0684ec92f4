"""The textbook version: whole padded prompts, one at a time, formulas spelled out.

Everything fast is compared with this. It shares no code with the package apart from the learner's
parameters and CLIP's own modules.
"""

import math

import clip
import torch
from torch.distributions import Normal, kl_divergence


def encode_prompt(clip_model, embeddings, n_tokens):
    """Text feature (E,) of one padded prompt (T, D) whose end token is its n_tokens-th."""
    x = embeddings + clip_model.positional_embedding
    x = clip_model.transformer(x[:, None])[:, 0]
    x = clip_model.ln_final(x)[n_tokens - 1] @ clip_model.text_projection
    return x / x.norm()


def prompt(clip_model, context, name, position="end"):
    """Embeddings (T, D) of "[start] context name . [end]", padded, and their number of tokens."""
    name = name.replace("_", " ")
    n_ctx = len(context)
    text = " ".join(["X"] * n_ctx) + " " + name + "."
    ids = clip.tokenize(text, context_length=clip_model.context_length)[0]
    embedded = clip_model.token_embedding(ids)
    n_name = len(clip.clip._tokenizer.encode(name))
    start, rest = embedded[:1], embedded[1 + n_ctx :]
    label, tail = rest[:n_name], rest[n_name:]
    half = n_ctx // 2
    order = {
        "end": [start, context, label, tail],
        "middle": [start, context[:half], label, context[half:], tail],
        "front": [start, label, context, tail],
    }[position]
    return torch.cat(order), int(ids.argmax()) + 1


def text_features(clip_model, contexts, names, position="end"):
    """Features (S, C, E) for contexts (S, M, D) or (S, C, M, D)."""
    rows = []
    for sample in contexts:
        per_class = sample if sample.dim() == 3 else [sample] * len(names)
        rows.append(torch.stack([
            encode_prompt(clip_model, *prompt(clip_model, context, name, position))
            for context, name in zip(per_class, names, strict=True)
        ]))  # fmt: skip
    return torch.stack(rows)


def logits(clip_model, images, contexts, names):
    """Logits (L, B, C) for contexts (L, K, M, D), K = 1 or B."""
    features = clip_model.encode_image(images)
    features = features / features.norm(dim=-1, keepdim=True)
    scale = clip_model.logit_scale.exp()
    out = []
    for per_sample in contexts:
        rows = []
        for i, feature in enumerate(features):
            context = per_sample[i if len(per_sample) > 1 else 0]
            text = text_features(clip_model, context[None], names)[0]
            rows.append(scale * text @ feature)
        out.append(torch.stack(rows))
    return torch.stack(out)


def loss(logits, labels, mu, logvar, *, objective, kl_weight, kl_reduction, prior_std, n_train):
    """Objective of a batch from logits (L, B, C); mu, logvar (K, R, D)."""
    likelihood = torch.stack([
        torch.stack([row.softmax(-1)[label] for row, label in zip(sample, labels, strict=True)])
        for sample in logits
    ])  # (L, B)  # fmt: skip
    nll = -likelihood.mean(0).log().mean() if objective == "iwae" else -likelihood.log().mean()
    kl = kl_divergence(
        Normal(mu, (logvar / 2).exp()), Normal(torch.zeros_like(mu), prior_std)
    ).sum((1, 2))  # fmt: skip
    n_dims = mu[0].numel()
    kl = kl.mean() / {"mean": n_dims, "sum": 1, "elbo": n_train}[kl_reduction]
    return nll + kl_weight * kl


def predictive(logits):
    """Log of the class probabilities averaged over samples, (B, C)."""
    return (sum(sample.softmax(-1) for sample in logits) / len(logits)).log()


def random_clip(
    *, embed=24, image=32, patch=16, vision_width=64, width=64, layers=3, context_length=77, seed=0
):
    """A small CLIP with random weights, wide enough that prompts differ."""
    from clip.model import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(
            embed, image, 2, vision_width, patch, context_length, 49408, width, max(1, width // 64),
            layers,
        ).float()
        with torch.no_grad():
            model.token_embedding.weight.mul_(2)
            model.positional_embedding.mul_(2)
            for block in model.transformer.resblocks:
                for p in block.parameters():
                    if p.dim() > 1:
                        p.mul_(2)
    return model.eval().requires_grad_(False)


def uniform_kl(mu, std, prior_std):
    """Closed form of the KL per dimension, for tests of other code paths."""
    return math.log(prior_std / std) + (std**2 + mu**2) / (2 * prior_std**2) - 0.5
