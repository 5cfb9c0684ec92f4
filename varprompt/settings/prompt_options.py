"""The options of a node TRAINER.<node>: what a trainer may learn -> what can be chosen of it."""

from __future__ import annotations

from .option import Option

CONTEXT = {
    "N_CTX": Option(4, "number of context tokens", field="n_ctx"),
    "CTX_INIT": Option(
        "a photo of a", "words to start from, '' = random vectors", field="ctx_init"
    ),
    "PREC": Option("fp16", "number format of the towers: fp32, fp16, amp, bf16", field="precision"),
    "CLASS_WORDS": Option(
        0.0, "how far contexts begin from CTX_INIT, or TEMPLATES, on the way to the mean of the "
        "class's own words; new classes have it, too", field="class_words",
    ),
}  # fmt: skip
COUPLED = {  # MaPLe's
    **CONTEXT,
    "N_CTX": Option(2, "number of prompts in a layer, of either tower", field="n_ctx"),
    "PROMPT_DEPTH": Option(9, "layers of both towers with prompts of their own", field="depth"),
}
INDEPENDENT = {  # of IVLP and PromptSRC
    "N_CTX_TEXT": Option(4, "number of prompts in a layer of the text tower", field="n_ctx"),
    "N_CTX_VISION": Option(
        4, "number of prompts in a layer of the image tower", field="n_ctx_visual"
    ),
    "CTX_INIT": CONTEXT["CTX_INIT"],
    "PREC": CONTEXT["PREC"],
    "CLASS_WORDS": CONTEXT["CLASS_WORDS"],
    "PROMPT_DEPTH_VISION": Option(
        9, "layers of the image tower with prompts of their own, 0 = none", field="depth_visual"
    ),
    "PROMPT_DEPTH_TEXT": Option(
        9, "layers of the text tower with prompts of their own", field="depth"
    ),
}
PROMPTS = {"": {}, "context": CONTEXT, "coupled": COUPLED, "independent": INDEPENDENT}
"""What a trainer may learn -> the options of that."""
CLASS_TOKEN = {
    "CSC": Option(False, "a context of its own for each class", field="class_specific"),
    "CLASS_TOKEN_POSITION": Option(
        "end", "where the class name stands: end, middle, front", field="position"
    ),
}
VARIATIONAL = {
    "L": Option(10, "samples in training", field="n_samples"),
    "L_TEST": Option(0, "samples at test, 0 = L", field="n_samples_test"),
    "TEST_SEED": Option(
        0,
        "seed of the samples at test, which all images share; -1 draws anew for every batch",
        field="test_seed",
    ),
    "SAMPLER": Option(
        "gaussian", "independent draws, antithetic pairs, or randomised sobol points",
        field="sampler",
    ),
    "OBJECTIVE": Option(
        "iwae", "iwae: log of the mean likelihood (authors' code); elbo: mean of the logs (paper)",
        field="objective",
    ),
    "KL_WEIGHT": Option(0.001, "factor of the KL divergence, reduced", field="kl_weight"),
    "KL_REDUCTION": Option(
        "mean", "mean over dimensions, sum, or sum / training images (elbo: one posterior for all "
        "images; sum_per_image: one of each)", field="kl_reduction",
    ),
    "PRIOR_STD": Option(1.0, "standard deviation of the prior", field="prior_std"),
    "PRIOR_UNIT": Option(
        "absolute", "of PRIOR_STD and the deviation in LOGVAR_INIT: absolute, or token_rms, that "
        "of the words that prompts start from", field="prior_unit",
    ),
    "LOGVAR_INIT": Option(
        None, "log-variance to start from, None = the authors' initialisation", field="logvar_init"
    ),
    "POSTERIOR": Option(
        "gaussian", "gaussian: learned variance; fixed: constant; delta: none, a MAP estimate; "
        "low_rank: diagonal + rank RANK; mixture: a COMPONENT around each of several TEMPLATES, "
        "with RESIDUAL per_token", field="posterior",
    ),
    "TEMPLATES": Option(
        (), "of posterior mixture: prompts with {} for the class name, words before and behind it",
        field="templates",
    ),
    "COMPONENT": Option(
        "gaussian", "of posterior mixture: gaussian, fixed or delta", field="component"
    ),
    "RANK": Option(4, "columns of the factor of posterior low_rank", field="rank"),
    "RESIDUAL": Option("shared", "one residual for all prompts, one per_token, or one per_layer",
                       field="residual"),
    "LEARN_CONTEXT": Option(
        True, "False keeps the context at the words: only the posterior is learned",
        field="learn_context",
    ),
}  # fmt: skip
CONDITIONAL = {
    "CONDITIONAL": Option(False, "the posterior depends on the image", field="conditional"),
    "PRIOR_MEAN": Option(
        "zero", "of the prior: zero, or class_words, those of an image's class", field="prior_mean"
    ),
}
COUPLE_RESIDUAL = {
    "COUPLE_RESIDUAL": Option(
        False, "the residual reaches the image tower, too, which then runs for every sample",
        field="couple_residual",
    )
}  # fmt: skip
WEIGHTS = {  # of terms of the loss
    "W": Option(8.0, "weight of the distance from hand-written prompts", least=0, most=1e6),
    "TEXT_LOSS_WEIGHT": Option(
        25.0, "weight of the distance of text features from the frozen ones", least=0, most=1e6
    ),
    "IMAGE_LOSS_WEIGHT": Option(
        10.0, "weight of the distance of image features from the frozen ones", least=0, most=1e6
    ),
}
AVERAGE = {
    "GPA_MEAN": Option(15.0, "epoch that weighs most in the average", least=-1e6, most=1e6),
    "GPA_STD": Option(
        1.0, "epochs that weigh much, a standard deviation; 0 = no average", least=0, most=1e6
    ),
}
OF_PROMPT = (
    CONTEXT | CLASS_TOKEN | VARIATIONAL | COUPLED | INDEPENDENT | CONDITIONAL | COUPLE_RESIDUAL
)
"""All options that a trainer's node may have of the prompt."""
FOR_ALL = {  # read by every trainer, as each has a text tower; kept under its old name
    "TRAINER.VPT.MEM_BUDGET": Option(
        0, "bytes for text activations, 0 = half of the free memory", field="mem_budget",
        decides=False,
    ),
    "TEST.MERGE": Option(
        False, "one classifier: the samples' text features averaged, not their probabilities",
        field="merge",
    ),
}  # fmt: skip
