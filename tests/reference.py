"""The textbook version: whole padded prompts, one at a time, formulas spelled out.

Everything fast is compared with this. It shares no code with the package, only CLIP's own modules;
of a learner it takes the values by name. Run in float64 (see `double`), its own rounding is far
below what it is compared with.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from varprompt.towers import openai_clip as clip

CLIP, LayerNorm = clip.model.CLIP, clip.model.LayerNorm


def encode_prompt(clip_model, embeddings, n_tokens, deep=(), unit_norm=True):
    """Text feature (E,) of one padded prompt (T, D) whose end token is its n_tokens-th.

    Prompts `deep` (N, D) each stand behind the start token of the layers from the second on.
    """
    x = embeddings + clip_model.positional_embedding
    for i, block in enumerate(clip_model.transformer.resblocks):
        if 0 < i <= len(deep):
            x = torch.cat([x[:1], deep[i - 1], x[1 + len(deep[i - 1]) :]])
        x = block(x[:, None])[:, 0]
    x = clip_model.ln_final(x)[n_tokens - 1] @ clip_model.text_projection
    return x / x.norm() if unit_norm else x


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


def text_features(clip_model, contexts, names, position="end", deep=None):
    """Features (S, C, E) for contexts (S, M, D) or (S, C, M, D), and deep (J - 1, S, N, D)."""
    rows = []
    for i, sample in enumerate(contexts):
        per_class = sample if sample.dim() == 3 else [sample] * len(names)
        below = () if deep is None else deep[:, i]
        rows.append(torch.stack([
            encode_prompt(clip_model, *prompt(clip_model, context, name, position), below)
            for context, name in zip(per_class, names, strict=True)
        ]))  # fmt: skip
    return torch.stack(rows)


def image_features(clip_model, images):
    """Unit-norm features (B, E)."""
    features = clip_model.encode_image(images)
    return features / features.norm(dim=-1, keepdim=True)


def prompted_image_feature(clip_model, image, prompts):
    """Feature (E,) of an image (3, H, W) with prompts (J, N, V) behind the tokens of the ViT."""
    tower = clip_model.visual
    patches = tower.conv1(image[None]).flatten(2)[0].T
    x = torch.cat([tower.class_embedding[None], patches]) + tower.positional_embedding
    n_patches = len(x)
    x = tower.ln_pre(torch.cat([x, prompts[0]]))
    for i, block in enumerate(tower.transformer.resblocks):
        if 0 < i < len(prompts):
            x = torch.cat([x[:n_patches], prompts[i]])
        x = block(x[:, None])[:, 0]
    x = tower.ln_post(x[0]) @ tower.proj
    return x / x.norm()


def mlp(values, name, x, activation):
    """Linear layers `name`.0, .2, ... or .linear1, .linear2 with an activation in between."""
    keys = [k for k in values if k.startswith(f"{name}.") and k.endswith(".weight")]
    for i, key in enumerate(sorted(keys)):
        x = activation(x) if i else x
        x = x @ values[key].T + values[key.replace("weight", "bias")]
    return x


def posterior(values, name, features, shape):
    """Mean or log-variance (K, R, D) by the learner's values: free, constant or of the image."""
    if f"posterior.{name}.0.weight" in values:
        return mlp(values, f"posterior.{name}", features, F.elu).reshape(len(features), *shape)
    return values[f"posterior.{name}"].reshape(1, *shape)


def contexts(values, features, eps):
    """Contexts (L, K, M, D) with mu, logvar (K, R, D) or None, for noise eps (L, K, R, D)."""
    ctx, shape = values["ctx"], eps.shape[2:]
    if "posterior.linear1.weight" in values:  # CoCoOp
        mu, logvar = mlp(values, "posterior", features, F.relu)[:, None], None
    elif any(k.startswith("posterior.") for k in values):
        at = "mean" if "posterior.mean.0.weight" in values else "mu"
        mu = posterior(values, at, features, shape)
        has_noise = any(k.startswith("posterior.logvar") for k in values)
        logvar = posterior(values, "logvar", features, shape).expand_as(mu) if has_noise else None
    else:  # CoOp
        return ctx[None, None], None, None
    residual = mu[None] if logvar is None else mu + (logvar / 2).exp() * eps
    return ctx + residual, mu, logvar


def text_layers(values):
    """Prompts (J, 1, 1, M, D) of the layers of the text tower without a residual."""
    first = values["ctx"][None]
    return torch.cat([first, values.get("deep.text", first[:0])])[:, None, None]


def layered_prompts(values, features, eps, per_layer):
    """Prompts (J, L, K, M, D) of the layers of the text tower, mu and logvar."""
    layers = text_layers(values)
    blank = torch.zeros(len(layers) if per_layer else layers.shape[3], layers.shape[4]).double()
    residual, mu, logvar = contexts(values | {"ctx": blank}, features, eps)  # (L, K, J or M, D)
    if per_layer:
        layers = torch.stack([p + residual[:, :, j, None] for j, p in enumerate(layers)])
    elif mu is not None:
        layers = layers + residual
    return layers, mu, logvar


def visual_prompts(values, layers):
    """Visual prompts (L, K, J, N, V) that go with those of the text tower; None without any."""
    if "deep.couplings.0.weight" in values:
        maps = [(values[f"deep.couplings.{j}.weight"], values[f"deep.couplings.{j}.bias"])
                for j in range(len(layers))]  # fmt: skip
        return torch.stack([p @ w.T + b for p, (w, b) in zip(layers, maps, strict=True)], 2)
    return values["deep.visual"][None, None] if "deep.visual" in values else None


def prompted_features(clip_model, images, visual):
    """Unit-norm features (L, B, E) of images under visual prompts (L, K, J, N, V), K = 1 or B."""
    if visual is None:
        return image_features(clip_model, images)[None]
    return torch.stack([
        torch.stack([
            prompted_image_feature(clip_model, image, sample[i % len(sample)])
            for i, image in enumerate(images)
        ])
        for sample in visual
    ])  # fmt: skip


def deep_outputs(clip_model, values, images, names, eps, *, words, per_layer, couple):
    """Logits (L, B, C), kl's mu and logvar, text (L, K, C, E) and image features (L or 1, B, E)."""
    features = prompted_features(clip_model, images, visual_prompts(values, text_layers(values)))
    layers, mu, logvar = layered_prompts(values, features[0], eps, per_layer)
    if couple:
        features = prompted_features(clip_model, images, visual_prompts(values, layers))
    text = torch.stack([
        torch.cat([
            text_features(clip_model, torch.cat([row[0], words])[None], names, deep=row[1:, None])
            for row in sample
        ])
        for sample in layers.permute(1, 2, 0, 3, 4)
    ])  # fmt: skip
    scale = clip_model.logit_scale.exp()
    rows = []
    for sample, own in zip(text, features.expand(len(text), -1, -1), strict=True):
        rows.append(torch.stack([scale * sample[b % len(sample)] @ f for b, f in enumerate(own)]))
    return torch.stack(rows), mu, logvar, text, features


def regularisers(logits, text, features, frozen_text, frozen_features, scale):
    """KgCoOp's and PromptSRC's terms, from what the samples say together."""
    learned = text.mean((0, 1))
    learned = learned / learned.norm(dim=-1, keepdim=True)
    seen = features.mean(0)
    seen = seen / seen.norm(dim=-1, keepdim=True)
    truth = (scale * frozen_features @ frozen_text.T).softmax(-1)
    ours = predictive(logits)
    return {
        "text_cosine": 1 - (learned * frozen_text).sum(-1).mean(),
        "text_l1": (learned - frozen_text).abs().mean(),
        "image_l1": (seen - frozen_features).abs().mean(),
        "logits_kl": (truth * (truth.log() - ours)).sum() / truth.numel(),
    }


def logits(clip_model, features, contexts, names, position="end"):
    """Logits (L, B, C) for contexts (L, K, M, D), K = 1 or B, or (1, 1, C, M, D)."""
    scale, out = clip_model.logit_scale.exp(), []
    for per_sample in contexts:
        text = text_features(clip_model, per_sample, names, position)  # (K, C, E)
        rows = [scale * text[i if len(text) > 1 else 0] @ f for i, f in enumerate(features)]
        out.append(torch.stack(rows))
    return torch.stack(out)


def kl(mu, logvar, prior_std):
    """KL (K,) in nats from N(0, prior_std^2); without noise minus the prior's log-density."""
    if mu is None:
        return torch.zeros(1)
    prior = Normal(torch.zeros_like(mu), prior_std)
    if logvar is None:
        return (prior.log_prob(torch.zeros_like(mu)) - prior.log_prob(mu)).sum((1, 2))
    return kl_divergence(Normal(mu, (logvar / 2).exp()), prior).sum((1, 2))


def loss(logits, labels, kl, n_dims, *, objective, kl_weight, kl_reduction, n_train):
    """Objective of a batch from logits (L, B, C) and kl (K,) summed over n_dims dimensions."""
    likelihood = torch.stack([
        torch.stack([row.softmax(-1)[label] for row, label in zip(sample, labels, strict=True)])
        for sample in logits
    ])  # (L, B)  # fmt: skip
    nll = -likelihood.mean(0).log().mean() if objective == "iwae" else -likelihood.log().mean()
    per = {"mean": n_dims, "sum": 1, "elbo": n_train, "sum_per_image": n_train}[kl_reduction]
    return nll + kl_weight * kl.mean() / per


def predictive(logits):
    """Log of the class probabilities averaged over samples, (B, C)."""
    return (sum(sample.softmax(-1) for sample in logits) / len(logits)).log()


def zero_shot(clip_model, names, templates, unit_norm=True):
    """Features (C, E): of each template (of unit norm), averaged, normalised again."""
    nothing = clip_model.positional_embedding[:0]
    total = 0
    for template in templates:
        texts = [template.format(name.replace("_", " ")) for name in names]
        ids = clip.tokenize(texts, context_length=clip_model.context_length)
        total = total + torch.stack([
            encode_prompt(clip_model, torch.cat([nothing, clip_model.token_embedding(row)]),
                          int(row.argmax()) + 1, unit_norm=unit_norm)
            for row in ids
        ])  # fmt: skip
    mean = total / len(templates)
    return mean / mean.norm(dim=-1, keepdim=True)


def calibration_error(confidence, correct, n_bins=15):
    """Expected calibration error in [0, 1], bin by bin."""
    error = 0.0
    for b in range(n_bins):
        low, high = b / n_bins, (b + 1) / n_bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high]
        if inside:
            gap = sum(correct[i] - confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(gap)
    return error


def double(clip_model):
    """A float64 copy; CLIP's own LayerNorm would go back to float32."""
    twin = copy.deepcopy(clip_model).double()
    for module in twin.modules():
        if isinstance(module, LayerNorm):
            module.__class__ = nn.LayerNorm
    return twin


def random_clip(
    *, embed=24, image=32, patch=16, vision_width=64, width=64, layers=3, context_length=77,
    resnet=False, vision_layers=2, seed=0,
):  # fmt: skip
    """A small CLIP with random weights, scaled up so that prompts differ (mean cosine 0.7).

    Not more: with blocks doubled, float32 alone is 1.4e-5 off in gradients.
    """
    vision_layers = (1, 1, 1, 1) if resnet else vision_layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            embed, image, vision_layers, vision_width, None if resnet else patch, context_length,
            49408, width, max(1, width // 64), layers,
        ).float()  # fmt: skip
        with torch.no_grad():
            model.token_embedding.weight.mul_(2)
            model.positional_embedding.mul_(2)
            for block in model.transformer.resblocks:
                for p in block.parameters():
                    if p.dim() > 1:
                        p.mul_(1.25)
    return model.eval().requires_grad_(False)
