/* Products with frozen weights on a processor with a tile unit (AMX): of a linear layer, of a gated MLP, and of what stands before and behind
 * the attention of a decoder's layer.
 *
 * Included by native_tiles.h. A weight is kept in the order of tiles, panels of 16 columns of the result; two of them are multiplied at a time.
 * Some hundred rows are put in that order, too, and stay in a core's second cache; the panels, or parts of them, stay in the first while the
 * rows pass by. These are loaded past the first cache (tileloaddt1), or they would drive the panels out of it; the next panels are fetched
 * meanwhile. What is left to do with a block of sums, rounding it or silu(gate) · up, is done between the products of the next one.
 */

#define ROWS 256 /* that are treated together, where they fit */
#define KEPT (4 << 20) /* bytes of them; fewer rows would read a large model's weights too often */
#define STEPS 20 /* of 32 inputs: parts of two panels that stay in the first cache */
#define SUMS (BLOCK * BLOCK)
#define WORTH 4000000 /* multiplications: ten microseconds, in which threads wake */

/* A block of sums [32, 32] that is still to be written, from `row` to `rows`. */
typedef struct {
    const float *from;
    bf16 *to;
    int64_t stride, row, rows;
} Left;

static inline __attribute__((always_inline)) void write_row(Left *left, int gated) {
    const float *from = left->from + left->row * BLOCK;
    bf16 *to = left->to + left->row++ * left->stride;
    floats a = from_fp32(from), b = from_fp32(from + 16);
    if (gated) {
        store(to, a * sigmoid(a) * b);
    } else {
        store_line(to, a, b);
    }
}

/* Two panels from some step on, what is fetched for later, and how many lines of it with every step. */
typedef struct {
    const bf16 *a, *b, *next_a, *next_b;
    int64_t lines;
} Pair;

#define MULTIPLY(rows, a, b) \
    _tile_loadd(6, a, 64); \
    _tile_stream_loadd(4, rows, 64); \
    _tile_loadd(7, b, 64); \
    _tile_stream_loadd(5, (rows) + TILE, 64); \
    _tile_dpbf16ps(0, 4, 6); \
    _tile_dpbf16ps(1, 4, 7); \
    _tile_dpbf16ps(2, 5, 6); \
    _tile_dpbf16ps(3, 5, 7);

/* sums [32, 32] = rows [32, 32 · steps] · both panels, added to what is there where `add`. Meanwhile `left` is written, and the 32 rows at
 * `own`, to which these sums go later, are fetched. */
static inline __attribute__((always_inline)) void block(const bf16 *rows, Pair *pair, int64_t steps, float *sums, int add, Left *left, int gated,
                                                        const bf16 *own, int64_t stride) {
    FENCE;
    if (add) {
        _tile_loadd(0, sums, BLOCK * 4);
        _tile_loadd(1, sums + 16, BLOCK * 4);
        _tile_loadd(2, sums + SUMS / 2, BLOCK * 4);
        _tile_loadd(3, sums + SUMS / 2 + 16, BLOCK * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t l = 0; l < steps; l++, rows += 2 * TILE) {
        MULTIPLY(rows, pair->a + l * TILE, pair->b + l * TILE)
        for (int64_t i = 0; i < pair->lines; i++, pair->next_a += BLOCK, pair->next_b += BLOCK) {
            __builtin_prefetch(pair->next_a, 0, 2);
            __builtin_prefetch(pair->next_b, 0, 2);
        }
        if (own && l < 16) { /* for writing, or the stores wait one for the other */
            __builtin_prefetch(own + 2 * l * stride, 1, 3);
            __builtin_prefetch(own + (2 * l + 1) * stride, 1, 3);
        }
        for (int i = 0; i < 2; i++)
            if (left->row < left->rows) write_row(left, gated);
    }
    while (left->row < left->rows) write_row(left, gated);
    _tile_stored(0, sums, BLOCK * 4);
    _tile_stored(1, sums + 16, BLOCK * 4);
    _tile_stored(2, sums + SUMS / 2, BLOCK * 4);
    _tile_stored(3, sums + SUMS / 2 + 16, BLOCK * 4);
    FENCE;
}

/* Rows of x [rows, 32 · steps] in the order of tiles, 32 by 32 rows, normed where `norm` is there; rows beyond are 0. */
static void in_tiles(const bf16 *x, int64_t rows, int64_t steps, const bf16 *norm, float eps, bf16 *out) {
    for (int64_t r = 0; r < blocks_of(rows) * BLOCK; r++, x += steps * BLOCK) {
        bf16 *to = out + r / BLOCK * steps * 2 * TILE + r % BLOCK * BLOCK;
        float factor = norm && r < rows ? norm_factor(x, steps * BLOCK, eps) : 0.0f;
        for (int64_t i = 0; i < steps * BLOCK; i += BLOCK, to += 2 * TILE)
            if (r >= rows) memset(to, 0, BLOCK * sizeof(bf16));
            else if (norm) store_line(to, load(x + i) * factor * load(norm + i), load(x + i + 16) * factor * load(norm + i + 16));
            else memcpy(to, x + i, BLOCK * sizeof(bf16));
    }
}

/* Blocks of 32 columns `from` to `to` of the product of rows in tiles with a weight, into out [rows, stride]; where `up` is there, blocks of
 * silu(weight's) · up's, 16 columns of each, as rows in tiles of `stride` steps for another product. */
static inline __attribute__((always_inline)) void columns(const bf16 *a, int64_t rows, int64_t steps, const bf16 *weight, const bf16 *up,
                                                          int64_t from, int64_t to, bf16 *out, int64_t stride, float *sums) {
    int64_t count = blocks_of(rows), parts = (steps + STEPS - 1) / STEPS, each = (steps + parts - 1) / parts, place = 0;
    int gated = up != NULL;
    Left left = {0};
    for (int64_t j = from; j < to; j++) {
        const bf16 *first = weight + (gated ? j : 2 * j) * steps * TILE, *second = gated ? up + j * steps * TILE : first + steps * TILE;
        for (int64_t start = 0; start < steps; start += each) {
            int64_t here = steps - start < each ? steps - start : each;
            int last = start + here == steps;
            int64_t further = last && !gated ? 2 * steps : start + here;
            Pair pair = {first + start * TILE, second + start * TILE, first + further * TILE, second + further * TILE, (16 + count - 1) / count};
            if (start) place -= count;
            for (int64_t i = 0; i < count; i++, place++) {
                /* Two blocks in turn where nothing is added later, else two rounds of blocks. */
                float *own = sums + (parts == 1 ? place % 2 : place % (2 * count)) * SUMS;
                bf16 *goal = gated ? out + (i * stride + j / 2) * 2 * TILE + j % 2 * 16 : out + i * BLOCK * stride + j * BLOCK;
                block(a + (i * steps + start) * 2 * TILE, &pair, here, own, start > 0, &left, gated, last && !gated ? goal : NULL, stride);
                if (last) left = (Left){own, goal, gated ? BLOCK : stride, 0, gated || rows - i * BLOCK > BLOCK ? BLOCK : rows - i * BLOCK};
            }
        }
    }
    while (left.row < left.rows) write_row(&left, gated);
}

/* Which rows a thread takes, `each` at a time; or, where there are few rows, which part of the columns. */
typedef struct {
    int64_t each, first, step, part, parts;
} Share;

static Share share(int64_t rows, int64_t most) {
    int64_t threads = omp_get_num_threads(), own = omp_get_thread_num(), rounds = (rows + most - 1) / most;
    if (threads > 1 && rows < threads * 2 * BLOCK) {
        int64_t together = rows < most ? blocks_of(rows) * BLOCK : most;
        return (Share){together, 0, together, own, threads};
    }
    rounds = (rounds + threads - 1) / threads * threads;
    int64_t each = blocks_of((rows + rounds - 1) / rounds) * BLOCK;
    return (Share){each, own * each, threads * each, 0, 1};
}

static int64_t rows_that_fit(int64_t columns) {
    int64_t most = KEPT / (columns * sizeof(bf16)) / BLOCK * BLOCK;
    return most > ROWS ? ROWS : most < 2 * BLOCK ? 2 * BLOCK : most;
}

/* A weight [n, k] in panels [n / 16, k / 32] of tiles; n a multiple of 16, k of 32. */
void tile_weight(const bf16 *weight, int64_t n, int64_t k, bf16 *out) {
#pragma omp parallel for schedule(static) if (n * k > ALONE)
    for (int64_t j = 0; j < n; j += 16)
        for (int64_t l = 0; l < k; l += BLOCK) {
            const bf16 *from = weight + j * k + l;
            bf16 *to = out + j * k + l * 16;
            __m512i r[16];
            for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + i * k);
            transpose(r);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * BLOCK, r[i]);
        }
}

/* A weight in tiles with n columns, and where its products go. */
typedef struct {
    const bf16 *weight;
    int64_t n;
    bf16 *out;
} Projection;

/* out [rows, n] = x [rows, k] · weight of up to three projections, n and k multiples of 32; x is normed first where `norm` is there. Where `cosine` is
 * there, the heads of the first two are turned by their positions: cosine, sine [rows, dim], the sign of the formula within the sine. */
int tile_project(const bf16 *x, int64_t rows, int64_t k, const bf16 *norm, float eps, const bf16 *w0, int64_t n0, bf16 *out0, const bf16 *w1, int64_t n1,
                 bf16 *out1, const bf16 *w2, int64_t n2, bf16 *out2, const bf16 *cosine, const bf16 *sine, int64_t dim) {
    Projection to[3] = {{w0, n0, out0}, {w1, n1, out1}, {w2, n2, out2}};
    int64_t steps = k / BLOCK, most = rows_that_fit(k);
    int failed = 0;
#pragma omp parallel if (rows * k * (n0 + n1 + n2) > WORTH)
    {
        Share mine = share(rows, most);
        bf16 *a = NULL;
        float *sums = NULL;
        char *base = NULL;
        for (int pass = 0; pass < 2; pass++) {
            int64_t place = 0;
            a = scratch(&place, base, mine.each * k * 2);
            sums = scratch(&place, base, 2 * (mine.each * BLOCK + SUMS) * 4);
            if (!base) base = aligned_alloc(64, place);
            if (!base) break;
        }
        if (!base) failed = 1;
        if (mine.parts > 1) {
#pragma omp barrier
        }
        configure();
        for (int64_t start = mine.first; !failed && start < rows; start += mine.step) {
            int64_t count = rows - start < mine.each ? rows - start : mine.each;
            in_tiles(x + start * k, count, steps, norm, eps, a);
            for (int i = 0; i < 3 && to[i].weight; i++) {
                int64_t n = to[i].n, all = n / BLOCK;
                columns(a, count, steps, to[i].weight, NULL, all * mine.part / mine.parts, all * (mine.part + 1) / mine.parts, to[i].out + start * n, n,
                        sums);
            }
            if (!cosine) continue;
            if (mine.parts > 1) { /* a head's halves may be two threads' */
#pragma omp barrier
            }
            for (int64_t r = start + mine.part; r < start + count; r += mine.parts)
                for (int i = 0; i < 2; i++) {
                    bf16 *heads = to[i].out + r * to[i].n;
                    rotate_row(heads, cosine + r * dim, sine + r * dim, heads, to[i].n / dim, dim);
                }
        }
        _tile_release();
        free(base);
    }
    return failed;
}

/* out [rows, hidden] = (silu(x · gate) · x · up) · down, of weights in tiles; all sizes are multiples of 32. Where `states` [rows, width] are there, those
 * that attention left, x is what they are added to behind the projection `o`; the sum is normed for the MLP, whose result is added to it. */
int tile_mlp(const bf16 *x, int64_t rows, int64_t hidden, int64_t inner, const bf16 *gate, const bf16 *up, const bf16 *down, bf16 *out,
             const bf16 *states, int64_t width, const bf16 *o, const bf16 *norm, float eps) {
    int64_t steps = hidden / BLOCK, wide = inner / BLOCK, widest = states && width > hidden ? width : hidden, most = rows_that_fit(widest + inner);
    bf16 *common = NULL, *common_side = NULL;
    int failed = 0;
#pragma omp parallel if (3 * rows * hidden * inner > WORTH)
    {
        Share mine = share(rows, most);
        bf16 *a = NULL, *h = NULL, *side = NULL, *sum = NULL;
        float *sums = NULL;
        char *base = NULL;
        for (int pass = 0; pass < 2; pass++) {
            int64_t place = 0, kept = states ? mine.each * hidden * 2 : 0;
            a = scratch(&place, base, mine.each * widest * 2);
            h = scratch(&place, base, mine.each * inner * 2);
            side = scratch(&place, base, kept);
            sum = scratch(&place, base, kept);
            sums = scratch(&place, base, 2 * (mine.each * BLOCK + SUMS) * 4);
            if (!base) base = aligned_alloc(64, place);
            if (!base) break;
        }
        if (!base) failed = 1;
        if (mine.parts > 1) { /* all threads fill the same rows of the next product */
            if (omp_get_thread_num() == 0) common = h, common_side = side;
#pragma omp barrier
            h = common, side = common_side;
        }
        int64_t from = steps * mine.part / mine.parts, to = steps * (mine.part + 1) / mine.parts;
        configure();
        for (int64_t start = mine.first; !failed && start < rows; start += mine.step) {
            int64_t count = rows - start < mine.each ? rows - start : mine.each;
            const bf16 *own = x + start * hidden;
            if (states) {
                in_tiles(states + start * width, count, width / BLOCK, NULL, 0.0f, a);
                columns(a, count, width / BLOCK, o, NULL, from, to, side, hidden, sums);
                if (mine.parts > 1) {
#pragma omp barrier
                }
                for (int64_t i = 0; i < count * hidden; i += BLOCK)
                    store_line(sum + i, load(own + i) + load(side + i), load(own + i + 16) + load(side + i + 16));
                own = sum;
            }
            in_tiles(own, count, steps, states ? norm : NULL, eps, a);
            columns(a, count, steps, gate, up, 2 * wide * mine.part / mine.parts, 2 * wide * (mine.part + 1) / mine.parts, h, wide, sums);
            if (mine.parts > 1) {
#pragma omp barrier
            }
            columns(h, count, wide, down, NULL, from, to, states ? side : out + start * hidden, hidden, sums);
            for (int64_t r = 0; states && r < count * hidden; r += hidden)
                for (int64_t i = r + from * BLOCK; i < r + to * BLOCK; i += BLOCK)
                    store_line(out + start * hidden + i, load(sum + i) + load(side + i), load(sum + i + 16) + load(side + i + 16));
            if (mine.parts > 1) {
#pragma omp barrier
            }
        }
        _tile_release();
        if (mine.parts > 1) {
#pragma omp barrier
        }
        free(base);
    }
    return failed;
}
