"""The Triton kernels behind `fused`.

A row is one of the K * R residuals; P = M / R tokens share it. A program owns BLOCK columns of one
row and a tile of TOKENS of its tokens, so that the noise of a column is computed once for the tile.
Samples go in groups of four, which is what one call of the counter-based generator yields. Sums are
taken inside a program, or partial sums are stored: no atomics, so results are deterministic.
`size` is K * R * D, `precision` is 1 / prior_std^2; SAMPLER is "gaussian", "antithetic" or "given".
"""

# mypy: disable-error-code="assignment, var-annotated"
# A kernel is Triton's language. Its loops over static_range are unrolled, so a tuple may grow in
# one, which Python's type checkers do not know.

import triton
import triton.language as tl


@triton.jit
def _quarter_sine(x):
    """The sine of x quarter turns, x in [0, 1]: Taylor series to x^11, error below 6e-8."""
    z = x * x
    tail = -0.00468175414 + z * (0.000160441185 + z * -3.59884324e-6)
    return x * (1.57079633 + z * (-0.645964098 + z * (0.0796926262 + z * tail)))


@triton.jit
def _normal_pair(a, b):
    """Box-Muller from 2 x 32 bits; without the branches of a sine that takes any argument."""
    # half a step away from zero, whose logarithm is infinite
    radius = tl.sqrt(-2.0 * tl.log(a.to(tl.float32) * 2.0**-32 + 2.0**-33))
    turn = (b >> 2).to(tl.float32) * 2.0**-30  # inside the quadrant that the other two bits choose
    x = radius * _quarter_sine(turn)
    y = radius * _quarter_sine(1 - turn)
    return tl.where((b & 1) == 0, x, -x), tl.where((b & 2) == 0, y, -y)


@triton.jit
def _log_ratio(logvar, prior_logvar, prior_rest):
    """Log of the ratio of posterior and prior variance; the prior's comes in two parts."""
    return (logvar - prior_logvar) - prior_rest


@triton.jit
def _exp_tail(r):
    """(exp(r) - 1 - r) / r^2 for |r| <= 1/2: Taylor series to r^7, error below 2e-9."""
    tail = 0.00138888889 + r * (0.000198412698 + r * (2.48015873e-5 + r * 2.75573192e-6))
    return 0.5 + r * (0.166666667 + r * (0.0416666667 + r * (0.00833333333 + r * tail)))


@triton.jit
def _exp_minus_tangent(r):
    """exp(r) - 1 - r. Near zero, at the prior, the terms cancel: at r = 1e-3 by 12 % of it."""
    return tl.where(tl.abs(r) < 0.5, r * r * _exp_tail(r), tl.exp(r) - 1 - r)


@triton.jit
def _exp_minus_1(r):
    """exp(r) - 1, its derivative, without the same cancellation."""
    return tl.where(tl.abs(r) < 0.5, r + r * r * _exp_tail(r), tl.exp(r) - 1)


@triton.jit
def _noise_of_group(noise, seed, group, L, size, offset, mask, SAMPLER: tl.constexpr):
    """Noise of samples 4 * group to 4 * group + 3 at `offset` of the (K, R, D) = size elements."""
    if SAMPLER == "given":
        first = noise + 4 * group * size + offset
        e0 = tl.load(first, _where(mask, 4 * group < L), 0.0).to(tl.float32)
        e1 = tl.load(first + size, _where(mask, 4 * group + 1 < L), 0.0).to(tl.float32)
        e2 = tl.load(first + 2 * size, _where(mask, 4 * group + 2 < L), 0.0).to(tl.float32)
        e3 = tl.load(first + 3 * size, _where(mask, 4 * group + 3 < L), 0.0).to(tl.float32)
    else:
        # A number's place in the stream is its place in the output, never its program or block:
        # the backward, and any other grid, finds the same noise there again. Every group needs
        # `size` places of its own, or samples 5 to 8 would be samples 1 to 4 moved by one.
        a, b, c, d = tl.randint4x(seed, group * size + offset)
        e0, e1 = _normal_pair(a, b)
        if SAMPLER == "antithetic":
            e2, e3 = e1, -e1
            e1 = -e0
        else:
            e2, e3 = _normal_pair(c, d)
    return e0, e1, e2, e3


@triton.jit
def _where(mask, condition):
    """`mask` (BLOCK,) where the scalar `condition` holds, else nothing.

    The comparison changes nothing: `&` alone makes int32 of it in Triton 3.9's interpreter, which
    then refuses the mask.
    """
    return (mask & condition) != 0


@triton.jit
def _place(
    pid, R: tl.constexpr, P: tl.constexpr, D: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Columns, token tile and residual of a program, and what remains of its number."""
    blocks: tl.constexpr = (D + BLOCK - 1) // BLOCK
    tiles: tl.constexpr = (P + TOKENS - 1) // TOKENS
    d = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    tile = pid // blocks % tiles
    r = pid // (blocks * tiles) % R
    return d, tile, r, pid // (blocks * tiles * R)


@triton.jit
def forward(
    contexts, kl, mu, logvar, context, noise, L, K, size, prior_logvar, prior_rest, precision,
    GROUPS: tl.constexpr, SAMPLER: tl.constexpr,
    R: tl.constexpr, P: tl.constexpr, D: tl.constexpr, TOKENS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The first K programs reduce the KL of a row; each other one draws 4 * GROUPS samples."""
    pid = tl.program_id(0)
    size = tl.cast(size, tl.int64)  # all offsets: L * size may pass 2^31
    if pid < K:
        _store_kl(kl, mu, logvar, pid.to(tl.int64), prior_logvar, prior_rest, precision, R * D)
    else:
        d, tile, r, rest = _place(pid - K, R, P, D, TOKENS, BLOCK)
        row = (rest % K).to(tl.int64) * R + r
        live = d < D
        mean = tl.load(mu + row * D + d, live, 0.0).to(tl.float32)
        std = tl.exp(0.5 * tl.load(logvar + row * D + d, live, 0.0).to(tl.float32))
        # context + mu is the same for all samples: kept in registers, read from memory once
        centres = ()
        for t in tl.static_range(TOKENS):
            token = tile * TOKENS + t
            words = tl.load(context + (r * P + token) * D + d, _where(live, token < P), 0.0)
            centres = centres + (words.to(tl.float32) + mean,)
        seed = tl.load(noise)  # the first of the given noise if SAMPLER is "given": not used then
        for i in range(GROUPS):
            group = rest // K * GROUPS + i
            e = _noise_of_group(noise, seed, group, L, size, row * D + d, live, SAMPLER)
            for j in tl.static_range(4):
                out = contexts + ((4 * group + j) * size + row * D) * P + d
                for t in tl.static_range(TOKENS):
                    token = tile * TOKENS + t
                    mask = _where(live, (token < P) & (4 * group + j < L))
                    tl.store(out + token * D, centres[t] + std * e[j], mask)


@triton.jit
def _store_kl(kl, mu, logvar, k, prior_logvar, prior_rest, precision, WIDTH: tl.constexpr):
    BLOCK: tl.constexpr = 1024
    total = tl.zeros([BLOCK], tl.float32)
    # One program for a row, in a fixed order: its KL is the same number in every run.
    for start in range(0, WIDTH, BLOCK):
        i = start + tl.arange(0, BLOCK)
        live = i < WIDTH
        mean = tl.load(mu + k * WIDTH + i, live, 0.0).to(tl.float32)
        logs = tl.load(logvar + k * WIDTH + i, live, 0.0).to(tl.float32)
        ratio = _log_ratio(logs, prior_logvar, prior_rest)
        total += tl.where(live, _exp_minus_tangent(ratio) + mean * mean * precision, 0.0)
    tl.store(kl + k, 0.5 * tl.sum(total))


@triton.jit
def backward(
    grad_mu, grad_logvar, grad_context, grad_contexts, grad_kl, mu, logvar, noise,
    L, K, size, prior_logvar, prior_rest, precision,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, SAMPLER: tl.constexpr,
    R: tl.constexpr, P: tl.constexpr, D: tl.constexpr, TOKENS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program takes ROWS rows of one residual: partial sums by token tile and run of rows."""
    d, tile, r, run = _place(tl.program_id(0), R, P, D, TOKENS, BLOCK)
    seed = tl.load(noise)
    size = tl.cast(size, tl.int64)
    zero = tl.zeros([BLOCK], tl.float32)
    by_token = ()
    for _ in tl.static_range(TOKENS):
        by_token = by_token + (zero,)
    for i in range(ROWS):
        k = run.to(tl.int64) * ROWS + i
        row = k * R + r
        live = _where(d < D, k < K)
        by_row = zero
        by_row_eps = zero
        for g in range(GROUPS):
            e = _noise_of_group(noise, seed, g, L, size, row * D + d, live, SAMPLER)
            sums = ()
            for t in tl.static_range(TOKENS):
                token = tile * TOKENS + t
                total = by_token[t]
                for j in tl.static_range(4):
                    given = grad_contexts + ((4 * g + j) * size + row * D) * P + token * D + d
                    mask = _where(live, (token < P) & (4 * g + j < L))
                    grad = tl.load(given, mask, 0.0).to(tl.float32)
                    total += grad
                    by_row += grad
                    by_row_eps += grad * e[j]
                sums = sums + (total,)
            by_token = sums
        # contexts = ... + exp(logvar / 2) * eps, so d / d logvar = eps * exp(logvar / 2) / 2
        by_row_eps *= 0.5 * tl.exp(0.5 * tl.load(logvar + row * D + d, live, 0.0).to(tl.float32))
        if tile == 0:  # the KL has no tokens: only one of a row's token tiles adds its gradient
            upstream = tl.load(grad_kl + k, k < K, 0.0)
            mean = tl.load(mu + row * D + d, live, 0.0).to(tl.float32)
            logs = tl.load(logvar + row * D + d, live, 0.0).to(tl.float32)
            ratio = _log_ratio(logs, prior_logvar, prior_rest)
            by_row += upstream * mean * precision
            by_row_eps += 0.5 * upstream * _exp_minus_1(ratio)
        tl.store(grad_mu + tile.to(tl.int64) * size + row * D + d, by_row, live)
        tl.store(grad_logvar + tile.to(tl.int64) * size + row * D + d, by_row_eps, live)
    for t in tl.static_range(TOKENS):
        token = tile * TOKENS + t
        out = grad_context + ((run.to(tl.int64) * R + r) * P + token) * D + d
        tl.store(out, by_token[t], _where(d < D, token < P))


@triton.jit
def write_noise(eps, seed, L, size, SAMPLER: tl.constexpr, BLOCK: tl.constexpr):
    """The noise of four samples."""
    size = tl.cast(size, tl.int64)
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    group = tl.program_id(1)
    live = offset < size
    e = _noise_of_group(seed, tl.load(seed), group, L, size, offset, live, SAMPLER)
    for j in tl.static_range(4):
        tl.store(eps + (4 * group + j) * size + offset, e[j], _where(live, 4 * group + j < L))
