"""The Triton kernels of one-token decoding; `decode` says what each one does and launches them."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

MAGIC = tl.constexpr(1.5 * 2.0**23)
"""Added and taken away again, it rounds a float32 below 2^22 to the nearest integer, halves to even."""

ADD, GLU, LOGITS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
PLAIN, NORMED, GATED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _add_and_max(s0, s1, m0, m1, m2, t0, t1, n0, n1, n2):
    return s0 + t0, s1 + t1, tl.maximum(m0, n0), tl.maximum(m1, n1), tl.maximum(m2, n2)


@triton.jit
def _factor(square, inner, largest, eps, inner_eps, K: tl.constexpr, OUTER: tl.constexpr):
    """(what takes the products x * gains to integers, what takes integers back) from the sums and the maximum."""
    r = 1.0
    if OUTER:
        r = 1.0 / tl.sqrt(square / K + eps)
    r = r / tl.sqrt(r * r * inner / K + inner_eps)
    top = tl.maximum(largest * r, 1e-5)
    return r * (127.0 / top), top / 127.0


@triton.jit
def _store_int8(v, scratch, K: tl.constexpr, BLOCK: tl.constexpr):
    """The floats v [BLOCK], below 128, rounded to the nearest integer, to `scratch`; what lies past K there stays zero."""
    at = tl.arange(0, BLOCK)
    tl.store(scratch + at, ((v + MAGIC) - MAGIC).to(tl.int8), at < K)


@triton.jit
def _dot4(a, b, c, NATIVE: tl.constexpr):
    """c + the sum of the products of the four signed bytes of a and b."""
    a, b = tl.broadcast(a, b)
    a, c = tl.broadcast(a, c)
    if NATIVE:
        c = tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        for byte in tl.static_range(4):
            c += ((a << (24 - 8 * byte)) >> 24) * ((b << (24 - 8 * byte)) >> 24)
    return c


@triton.jit
def _rows(data, first, count, start, J: tl.constexpr, R: tl.constexpr, WORDS: tl.constexpr):
    """Words start to start + WORDS of the R packed rows from `first`; zero past the row's end or the `count` rows."""
    row = first + tl.arange(0, R)
    word = start + tl.arange(0, WORDS)
    inside = (row[:, None] < count) & (word[None, :] < J // 4)
    return tl.load(data.to(tl.pointer_type(tl.int32)) + row[:, None] * (J // 4) + word[None, :], inside, 0)


@triton.jit
def _fetch(data, size):
    """Have this program's share of the `size` bytes that the next kernel reads brought into the L2 cache."""
    for start in range(tl.program_id(0) * 32768, size, tl.num_programs(0) * 32768):
        address = (data + tl.minimum(start + 128 * tl.arange(0, 256), size - 1)).to(tl.int64)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [address], dtype=tl.int32, is_pure=False, pack=1
        )


@triton.jit
def _digits(low, high):
    """The next digit of four packed bytes (even ones in `low`, odd ones in `high`), one in each byte; and what is left."""
    low = low * 3
    high = high * 3
    digits = ((low >> 8) & 0x00FF00FF) | (high & -16711936)  # 0xFF00FF00
    return digits, low & 0x00FF00FF, high & 0x00FF00FF


@triton.jit
def mixer(
    state, g, gs, x, scratch, outer, gains, data, scales, bound, eps, inner_eps, later, size,
    K: tl.constexpr, J: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr, WORDS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """R rows of i, f and g from x, and the recurrence on them; writes h to `state`, g, and g * silu(h) to `gs`."""
    first = tl.program_id(0) * R
    wi, wf, wg = data, data + K * J, data + 2 * K * J
    next_i = _rows(wi, first, K, 0, J, R, WORDS)
    next_f = _rows(wf, first, K, 0, J, R, WORDS)
    next_g = _rows(wg, first, K, 0, J, R, WORDS)
    at = tl.arange(0, BLOCK)
    norm = tl.load(outer + at, at < K, 0.0)
    v_i = tl.load(gains + at, at < K, 0.0)
    v_f = tl.load(gains + K + at, at < K, 0.0)
    v_g = tl.load(gains + 2 * K + at, at < K, 0.0)
    if NATIVE:
        _fetch(later, size)
        gdc_wait()
    a = tl.load(x + at, at < K, 0.0)
    norm, v_i, v_f, v_g = a * norm, a * v_i, a * v_f, a * v_g
    square, inner, top_i, top_f, top_g = tl.reduce(
        (a * a, norm * norm, tl.abs(v_i), tl.abs(v_f), tl.abs(v_g)), 0, _add_and_max
    )
    to_i, from_i = _factor(square, inner, top_i, eps, inner_eps, K, True)
    to_f, from_f = _factor(square, inner, top_f, eps, inner_eps, K, True)
    to_g, from_g = _factor(square, inner, top_g, eps, inner_eps, K, True)
    scratch += tl.program_id(0) * (15 * J)
    _store_int8(v_i * to_i, scratch, K, BLOCK)
    _store_int8(v_f * to_f, scratch + 5 * J, K, BLOCK)
    _store_int8(v_g * to_g, scratch + 10 * J, K, BLOCK)
    tl.debug_barrier()
    words = scratch.to(tl.pointer_type(tl.int32))
    ones = tl.full([WORDS], 0x01010101, tl.int32)
    acc_i = tl.zeros([R, WORDS], tl.int32)
    acc_f = tl.zeros([R, WORDS], tl.int32)
    acc_g = tl.zeros([R, WORDS], tl.int32)
    sum_i = tl.zeros([WORDS], tl.int32)
    sum_f = tl.zeros([WORDS], tl.int32)
    sum_g = tl.zeros([WORDS], tl.int32)
    for start in range(0, J // 4, WORDS):
        word = start + tl.arange(0, WORDS)
        low_i, high_i = next_i & 0x00FF00FF, (next_i >> 8) & 0x00FF00FF
        low_f, high_f = next_f & 0x00FF00FF, (next_f >> 8) & 0x00FF00FF
        low_g, high_g = next_g & 0x00FF00FF, (next_g >> 8) & 0x00FF00FF
        if J // 4 > WORDS:
            next_i = _rows(wi, first, K, start + WORDS, J, R, WORDS)
            next_f = _rows(wf, first, K, start + WORDS, J, R, WORDS)
            next_g = _rows(wg, first, K, start + WORDS, J, R, WORDS)
        for digit in tl.static_range(5):
            q_i = tl.load(words + digit * (J // 4) + word, word < J // 4, 0)
            q_f = tl.load(words + (5 + digit) * (J // 4) + word, word < J // 4, 0)
            q_g = tl.load(words + (10 + digit) * (J // 4) + word, word < J // 4, 0)
            sum_i = _dot4(q_i, ones, sum_i, NATIVE)
            sum_f = _dot4(q_f, ones, sum_f, NATIVE)
            sum_g = _dot4(q_g, ones, sum_g, NATIVE)
            trits, low_i, high_i = _digits(low_i, high_i)
            acc_i = _dot4(trits, q_i[None, :], acc_i, NATIVE)
            trits, low_f, high_f = _digits(low_f, high_f)
            acc_f = _dot4(trits, q_f[None, :], acc_f, NATIVE)
            trits, low_g, high_g = _digits(low_g, high_g)
            acc_g = _dot4(trits, q_g[None, :], acc_g, NATIVE)
    if NATIVE:
        gdc_launch_dependents()
    row = first + tl.arange(0, R)
    own = row < K
    out_i = (tl.sum(acc_i, 1) - tl.sum(sum_i)).to(tl.float32) * (from_i * tl.load(scales))
    out_f = (tl.sum(acc_f, 1) - tl.sum(sum_f)).to(tl.float32) * (from_f * tl.load(scales + 1))
    out_g = (tl.sum(acc_g, 1) - tl.sum(sum_g)).to(tl.float32) * (from_g * tl.load(scales + 2))
    low = tl.load(bound + row, own, 0.0)
    forget = low + (1.0 - low) * _sigmoid(out_f)
    h = forget * tl.load(state + row, own, 0.0) + out_i * _sigmoid(out_i) * (1.0 - forget)
    tl.store(state + row, h, own)
    tl.store(g + row, out_g, own)
    tl.store(gs + row, out_g * h * _sigmoid(h), own)


@triton.jit
def project(
    out, x, z, scratch, outer, gain, data, scale, best, where, eps, inner_eps, later, size,
    ROWS: tl.constexpr, K: tl.constexpr, J: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr, WORDS: tl.constexpr,
    KIND: tl.constexpr, EPILOGUE: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """out[row] from x. outer: gain of the norm before the inner one; its sum of squares is x's, or z's if GATED.

    gain: the inner norm's, times `outer` unless PLAIN.
    """
    first = tl.program_id(0) * R
    ahead = _rows(data, first, ROWS, 0, J, R, WORDS)
    ahead_up = ahead
    if EPILOGUE == GLU:
        ahead_up = _rows(data + ROWS * J, first, ROWS, 0, J, R, WORDS)
    at = tl.arange(0, BLOCK)
    v = tl.load(gain + at, at < K, 0.0)
    norm = v
    if KIND != PLAIN:
        norm = tl.load(outer + at, at < K, 0.0)
    if NATIVE:
        _fetch(later, size)
        gdc_wait()
    a = tl.load(x + at, at < K, 0.0)
    square = a
    if KIND == GATED:
        square = tl.load(z + at, at < K, 0.0)
    inner = a
    if KIND != PLAIN:
        inner = a * norm
    v = a * v
    top = tl.abs(v)
    square, inner, top, top, top = tl.reduce((square * square, inner * inner, top, top, top), 0, _add_and_max)
    to, back = _factor(square, inner, top, eps, inner_eps, K, KIND != PLAIN)
    scratch += tl.program_id(0) * (5 * J)
    _store_int8(v * to, scratch, K, BLOCK)
    tl.debug_barrier()
    words = scratch.to(tl.pointer_type(tl.int32))
    ones = tl.full([WORDS], 0x01010101, tl.int32)
    acc = tl.zeros([R, WORDS], tl.int32)
    acc_up = tl.zeros([R, WORDS], tl.int32)
    total = tl.zeros([WORDS], tl.int32)
    for start in range(0, J // 4, WORDS):
        word = start + tl.arange(0, WORDS)
        low, high = ahead & 0x00FF00FF, (ahead >> 8) & 0x00FF00FF
        low_up, high_up = ahead_up & 0x00FF00FF, (ahead_up >> 8) & 0x00FF00FF
        if J // 4 > WORDS:
            ahead = _rows(data, first, ROWS, start + WORDS, J, R, WORDS)
            if EPILOGUE == GLU:
                ahead_up = _rows(data + ROWS * J, first, ROWS, start + WORDS, J, R, WORDS)
        for digit in tl.static_range(5):
            q = tl.load(words + digit * (J // 4) + word, word < J // 4, 0)
            total = _dot4(q, ones, total, NATIVE)
            trits, low, high = _digits(low, high)
            acc = _dot4(trits, q[None, :], acc, NATIVE)
            if EPILOGUE == GLU:
                trits, low_up, high_up = _digits(low_up, high_up)
                acc_up = _dot4(trits, q[None, :], acc_up, NATIVE)
    if NATIVE:
        gdc_launch_dependents()
    row = first + tl.arange(0, R)
    own = row < ROWS
    back = back * tl.load(scale)
    offset = tl.sum(total)
    y = (tl.sum(acc, 1) - offset).to(tl.float32) * back
    if EPILOGUE == GLU:
        y = y * _sigmoid(y) * ((tl.sum(acc_up, 1) - offset).to(tl.float32) * back)
    if EPILOGUE == ADD:
        y += tl.load(out + row, own, 0.0)
    tl.store(out + row, y, own)
    if EPILOGUE == LOGITS:
        value, index = tl.max(tl.where(own, y, -float("inf")), 0, return_indices=True)
        tl.store(best + tl.program_id(0), value)
        tl.store(where + tl.program_id(0), index + tl.program_id(0) * R)


@triton.jit
def next_token(
    x, chosen, place, forced, best, where, embedding, embedding_scale, programs,
    K: tl.constexpr, BLOCK: tl.constexpr, PROGRAMS: tl.constexpr, FIRST: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """The best logit's token, or the one that `forced` names at this place: to `chosen`, and its embedding to x."""
    if NATIVE:
        gdc_wait()
    at = tl.arange(0, PROGRAMS)
    _, index = tl.max(tl.load(best + at, at < programs, -float("inf")), 0, return_indices=True)
    token = tl.load(where + index)
    now = tl.load(place)
    if not FIRST:
        now += 1
        tl.debug_barrier()
        tl.store(place, now)
    wanted = tl.load(forced + now)
    token = tl.where(wanted >= 0, wanted, token)
    tl.store(chosen + now, token)
    at = tl.arange(0, BLOCK)
    row = tl.load(embedding + token.to(tl.int64) * K + at, at < K, 0).to(tl.float32)
    tl.store(x + at, row * tl.load(embedding_scale + token), at < K)
