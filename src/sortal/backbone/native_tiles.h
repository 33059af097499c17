/* Attention inside the texts of a pack on a processor with a tile unit (AMX): products of 32 × 32 × 32, two tiles by two.
 *
 * Included by native.c. What a text's rows of one key head need is packed once and stays in the core's cache; logits and weights never
 * leave it, and backward computes them again (Dao, arXiv 2307.08691) — for 32 queries at a time over all of their keys, so that no
 * running maximum is needed.
 */
#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK 32
#define TILE 512 /* elements of a tile: 16 rows of 32 */
#define QUERIES 512 /* what a thread takes at a time of a text in forward */
#define PARTS 8 /* of the rows below a prompt, in backward: what a thread takes at a time of them */

/* Compilers do not know that loading a tile reads memory. */
#define FENCE __asm__ volatile("" ::: "memory")

static inline void store_line(bf16 *to, floats a, floats b) {
    __m512bh both = _mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    memcpy(to, &both, sizeof both);
}

static inline int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

/* Linux lends the tiles' state to a process that asks. */
int tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static void configure(void) {
    struct { uint8_t palette, start, none[14]; uint16_t bytes[16]; uint8_t rows[16]; } all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.bytes[i] = 64, all.rows[i] = 16;
    __asm__ volatile("" : : "m"(all)); /* nor that this reads more than a pointer's worth */
    _tile_loadconfig(&all);
}

/* c [32 · m, 32 · n] = a [32 · m, 32 · k] · b in tiles of 32 × 16, of which tile (k, n) is at b + k · down + n · right; added to c where `add`. */
static void product(const bf16 *a, int64_t lda, const bf16 *b, int64_t down, int64_t right, float *c, int64_t ldc, int64_t m, int64_t n,
                    int64_t k, int add) {
    FENCE;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            float *to = c + i * BLOCK * ldc + j * BLOCK, *low = to + 16 * ldc;
            if (add) {
                _tile_loadd(0, to, ldc * 4);
                _tile_loadd(1, to + 16, ldc * 4);
                _tile_loadd(2, low, ldc * 4);
                _tile_loadd(3, low + 16, ldc * 4);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (int64_t l = 0; l < k; l++) {
                const bf16 *rows = a + i * BLOCK * lda + l * BLOCK, *columns = b + l * down + 2 * j * right;
                _tile_loadd(4, rows, lda * 2);
                _tile_loadd(6, columns, 64);
                _tile_loadd(7, columns + right, 64);
                _tile_loadd(5, rows + 16 * lda, lda * 2);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, to, ldc * 4);
            _tile_stored(1, to + 16, ldc * 4);
            _tile_stored(2, low, ldc * 4);
            _tile_stored(3, low + 16, ldc * 4);
        }
    }
    FENCE;
}

/* 16 rows of 16 words: r[i][j] to r[j][i], by swapping ever larger blocks off the diagonal. */
static inline void transpose(__m512i r[16]) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
    for (int step = 1; step < 16; step *= 2) {
        __m512i by = _mm512_set1_epi32(step);
        __mmask16 odd = _mm512_test_epi32_mask(lane, by);
        __m512i left = _mm512_mask_add_epi32(lane, odd, lane, _mm512_set1_epi32(16 - step));
        __m512i right = _mm512_mask_add_epi32(_mm512_add_epi32(lane, by), odd, lane, _mm512_set1_epi32(16));
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (i & step) continue;
            __m512i a = r[i], b = r[i + step];
            r[i] = _mm512_permutex2var_epi32(a, left, b);
            r[i + step] = _mm512_permutex2var_epi32(a, right, b);
        }
    }
}

/* `count` rows of one head, `stride` apart, to 32 · blocks rows without gaps; those behind are 0. From row `skip` on, of p rows of `before` and then x's. */
static void gather_behind(const bf16 *before, int64_t p, const bf16 *x, int64_t stride, int64_t skip, int64_t count, int64_t dim,
                          int64_t blocks, bf16 *out) {
    for (int64_t r = 0; r < count; r++) {
        const bf16 *row = skip + r < p ? before + (skip + r) * stride : x + (skip + r - p) * stride;
        memcpy(out + r * dim, row, dim * sizeof(bf16));
    }
    memset(out + count * dim, 0, (blocks * BLOCK - count) * dim * sizeof(bf16));
}

static void gather(const bf16 *x, int64_t stride, int64_t count, int64_t dim, int64_t blocks, bf16 *out) {
    gather_behind(NULL, 0, x, stride, 0, count, dim, blocks, out);
}

/* Right-hand tiles for products with the transpose of x [32 · blocks, dim]: tile (k, n) at k · 512 + n · 16 · dim. */
static void transposed(const bf16 *x, int64_t dim, int64_t blocks, bf16 *out) {
    for (int64_t n = 0; n < 2 * blocks; n++) {
        for (int64_t k = 0; k < dim / BLOCK; k++, out += TILE) {
            __m512i r[16];
            for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(x + (n * 16 + i) * dim + k * BLOCK);
            transpose(r);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + i * BLOCK, r[i]);
        }
    }
}

/* Right-hand tiles for products with x [32 · blocks, dim] itself: tile (k, n) at k · 32 · dim + n · 512. Words are pairs of rows. */
static void paired(const bf16 *x, int64_t dim, int64_t blocks, bf16 *out) {
    for (int64_t k = 0; k < blocks; k++) {
        for (int64_t n = 0; n < dim / 16; n++) {
            for (int i = 0; i < 16; i++, out += BLOCK) {
                const bf16 *even = x + (k * BLOCK + 2 * i) * dim + n * 16;
                __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)even));
                __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(even + dim)));
                _mm512_storeu_si512(out, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
            }
        }
    }
}

/* x [32, columns] in fp32, rows ld apart, to its transpose in bfloat16 [columns, 32]. */
static void turned(const float *x, int64_t ld, int64_t columns, bf16 *out) {
    for (int64_t c = 0; c < columns; c += 16) {
        for (int half = 0; half < BLOCK; half += 16) {
            __m512i r[16];
            for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(x + (half + i) * ld + c);
            transpose(r);
            for (int i = 0; i < 16; i++) store(out + (c + i) * BLOCK + half, (floats)r[i]);
        }
    }
}

/* Of 16 keys from `key` on, those that a query sees. */
static inline __mmask16 among(int64_t key, int64_t first, int64_t last) {
    int64_t from = first - key, to = last - key;
    if (from >= 16 || to <= 0) return 0;
    uint32_t below = to >= 16 ? 0xffffu : (1u << to) - 1u;
    return (__mmask16)(from > 0 ? below & ~((1u << from) - 1u) : below);
}

static inline floats where(__mmask16 mask, floats x, float other) {
    return (floats)_mm512_mask_mov_ps(_mm512_set1_ps(other), mask, (__m512)x);
}

static inline floats from_fp32(const float *x) { return (floats)_mm512_loadu_ps(x); }

/* Keys, at places among a text's `length`, that a query sees; nothing for a query behind the text's end. */
static inline void sight(int64_t query, int64_t length, int64_t window, int causal, int64_t *first, int64_t *last) {
    *first = query + 1 - window > 0 ? query + 1 - window : 0;
    *last = causal ? query + 1 : query + window < length ? query + window : length;
    if (query >= length) *first = *last = 0;
}

/* Blocks of keys that any of the 32 queries from `query` on sees. */
static inline void stretch(int64_t query, int64_t length, int64_t window, int causal, int64_t *first, int64_t *last) {
    int64_t end = causal || query + BLOCK - 1 + window < length ? query + BLOCK - 1 + (causal ? 1 : window) : length;
    *first = (query + 1 - window > 0 ? query + 1 - window : 0) / BLOCK;
    *last = blocks_of(end < length ? end : length);
}

/* What a row sees of keys from `key` on: those from first to last. */
static inline void see(__mmask16 *seen, int64_t columns, int64_t key, int64_t first, int64_t last) {
    for (int64_t i = 0; i < columns; i += 16) seen[i / 16] = among(key + i, first, last);
}

/* A row of logits to e^(scale · logit - highest) over the keys it sees, 0 elsewhere; what they sum to. */
static inline float exponentials(float *row, int64_t columns, const __mmask16 *seen, float scale) {
    floats most = {0}, sum = {0};
    most -= INFINITY;
    for (int64_t i = 0; i < columns; i += 16) most = larger(where(seen[i / 16], from_fp32(row + i), -INFINITY), most);
    float highest = largest(most) * scale;
    for (int64_t i = 0; i < columns; i += 16) {
        floats v = where(seen[i / 16], exponential(from_fp32(row + i) * scale - highest), 0.0f);
        sum += v;
        _mm512_storeu_ps(row + i, (__m512)v);
    }
    return total(sum);
}

/* The same in bfloat16, of a row that sees the keys from `first` to `last` of its columns. */
static inline float narrow_exponentials(const float *row, int64_t columns, int64_t first, int64_t last, float scale, bf16 *out) {
    int64_t from = first / 16 * 16, to = (last + 15) / 16 * 16;
    floats most = {0}, sum = {0};
    most -= INFINITY;
    for (int64_t i = from; i < to; i += 16) {
        floats v = from_fp32(row + i);
        most = larger(i >= first && i + 16 <= last ? v : where(among(i, first, last), v, -INFINITY), most);
    }
    float highest = largest(most) * scale;
    memset(out, 0, from * sizeof(bf16));
    for (int64_t i = from; i < to; i += 16) {
        floats v = exponential(from_fp32(row + i) * scale - highest);
        if (i < first || i + 16 > last) v = where(among(i, first, last), v, 0.0f);
        sum += v;
        store(out + i, v);
    }
    memset(out + to, 0, (columns - to) * sizeof(bf16));
    return total(sum);
}

/* A row's exponentials to weights, and its weights' gradients to those of the logits, these in bfloat16, too. */
static inline void slopes_of(float *weight, float *slope, int64_t columns, float inverse, float scale, bf16 *narrow) {
    floats dot = {0};
    for (int64_t i = 0; i < columns; i += 16) dot += from_fp32(weight + i) * from_fp32(slope + i);
    float along = total(dot) * inverse;
    for (int64_t i = 0; i < columns; i += 16) {
        floats w = from_fp32(weight + i) * inverse, d = w * (from_fp32(slope + i) - along) * scale;
        _mm512_storeu_ps(weight + i, (__m512)w);
        _mm512_storeu_ps(slope + i, (__m512)d);
        store(narrow + i, d);
    }
}

static void *scratch(int64_t *place, char *base, int64_t bytes) {
    void *at = base ? base + *place : NULL;
    *place += (bytes + 63) / 64 * 64;
    return at;
}

/* q, out [tokens, heads, dim], k, v [tokens, kv_heads, dim], text t the tokens starts[t]..starts[t + 1]; dim a multiple of 32. Before every text
 * stand the p keys and values [p, kv_heads, dim] of before_k and before_v. 0, or 1 for lack of memory. */
int tile_attention(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *before_k, const bf16 *before_v, int64_t p, const int32_t *starts, int64_t texts, int64_t longest, int64_t heads,
                   int64_t kv_heads, int64_t dim, int64_t window, int causal, float scale, bf16 *out) {
    int64_t most = blocks_of(p + longest), deep = dim / BLOCK, group = heads / kv_heads, parts = (longest + QUERIES - 1) / QUERIES;
    int failed = 0;
#pragma omp parallel if (starts[texts] * heads * dim > ALONE)
    {
        char *base = NULL;
        bf16 *rows, *keys, *values, *queries, *weights;
        float *logits, *sums;
        for (int pass = 0; pass < 2; pass++) {
            int64_t place = 0;
            rows = scratch(&place, base, most * BLOCK * dim * 2);
            keys = scratch(&place, base, most * BLOCK * dim * 2);
            values = scratch(&place, base, most * BLOCK * dim * 2);
            queries = scratch(&place, base, BLOCK * dim * 2);
            weights = scratch(&place, base, BLOCK * most * BLOCK * 2);
            logits = scratch(&place, base, BLOCK * most * BLOCK * 4);
            sums = scratch(&place, base, BLOCK * dim * 4);
            if (!base) base = aligned_alloc(64, place);
            if (!base) break;
        }
        if (!base) failed = 1;
        configure();
#pragma omp for schedule(dynamic) collapse(3)
        for (int64_t t = 0; t < texts; t++)
            for (int64_t h = 0; h < kv_heads; h++)
                for (int64_t part = 0; part < parts; part++) {
                    int64_t start = starts[t], own = starts[t + 1] - start, length = p + own, begin = part * QUERIES, first, last, unused;
                    if (!base || begin >= own) continue;
                    int64_t end = begin + QUERIES < own ? begin + QUERIES : own;
                    stretch(p + begin, length, window, causal, &first, &unused);
                    stretch(p + (end - 1) / BLOCK * BLOCK, length, window, causal, &unused, &last);
                    int64_t skip = first * BLOCK, count = (last * BLOCK < length ? last * BLOCK : length) - skip, its = last - first;
                    int64_t stride = kv_heads * dim, at = start * stride + h * dim;
                    gather_behind(before_k + h * dim, p, k + at, stride, skip, count, dim, its, rows);
                    transposed(rows, dim, its, keys);
                    gather_behind(before_v + h * dim, p, v + at, stride, skip, count, dim, its, rows);
                    paired(rows, dim, its, values);
                    for (int64_t g = 0; g < group; g++)
                        for (int64_t query = begin; query < end; query += BLOCK) {
                            int64_t near, far, here = end - query < BLOCK ? end - query : BLOCK;
                            int64_t offset = (start + query) * heads * dim + (h * group + g) * dim;
                            stretch(p + query, length, window, causal, &near, &far);
                            int64_t columns = (far - near) * BLOCK, behind = (near - first) * BLOCK * dim;
                            if (here < BLOCK) gather(q + offset, heads * dim, here, dim, 1, queries);
                            product(here < BLOCK ? queries : q + offset, here < BLOCK ? dim : heads * dim, keys + behind, TILE, 16 * dim, logits,
                                    columns, 1, far - near, deep, 0);
                            /* Where the result goes, and the queries of the next block, while the weights are computed. */
                            int64_t more = query + BLOCK < end ? BLOCK * heads * dim : g + 1 < group ? dim - (query - begin) * heads * dim : 0;
                            for (int64_t r = 0; r < here; r++)
                                for (int64_t i = 0; i < dim; i += BLOCK) {
                                    __builtin_prefetch(out + offset + r * heads * dim + i, 1, 3);
                                    __builtin_prefetch(q + offset + more + r * heads * dim + i, 0, 3);
                                }
                            float inverse[BLOCK];
                            for (int64_t r = 0; r < here; r++) {
                                int64_t low, high;
                                sight(p + query + r, length, window, causal, &low, &high);
                                inverse[r] = 1.0f / narrow_exponentials(logits + r * columns, columns, low - near * BLOCK, high - near * BLOCK, scale,
                                                                        weights + r * columns);
                            }
                            product(weights, columns, values + behind, BLOCK * dim, TILE, sums, dim, 1, deep, far - near, 0);
                            for (int64_t r = 0; r < here; r++)
                                for (int64_t i = 0; i < dim; i += BLOCK) {
                                    const float *from = sums + r * dim + i;
                                    store_line(out + offset + r * heads * dim + i, from_fp32(from) * inverse[r], from_fp32(from + 16) * inverse[r]);
                                }
                        }
                }
        _tile_release();
        free(base);
    }
    return failed;
}

/* Gradients to q, k and v from that to what `tile_attention` gives. */
int tile_attention_backward(const bf16 *grad, const bf16 *q, const bf16 *k, const bf16 *v, const int32_t *starts, int64_t texts,
                            int64_t longest, int64_t heads, int64_t kv_heads, int64_t dim, int64_t window, int causal, float scale,
                            bf16 *to_q, bf16 *to_k, bf16 *to_v) {
    int64_t most = blocks_of(longest), deep = dim / BLOCK, group = heads / kv_heads;
    int failed = 0;
#pragma omp parallel if (starts[texts] * heads * dim > ALONE)
    {
        char *base = NULL;
        bf16 *rows, *keys, *values, *pairs, *queries, *grads, *query_pairs, *grad_pairs, *narrow;
        float *logits, *slopes, *sums, *key_sums, *value_sums;
        __mmask16 *seen;
        for (int pass = 0; pass < 2; pass++) {
            int64_t place = 0;
            rows = scratch(&place, base, most * BLOCK * dim * 2);
            keys = scratch(&place, base, most * BLOCK * dim * 2);
            values = scratch(&place, base, most * BLOCK * dim * 2);
            pairs = scratch(&place, base, most * BLOCK * dim * 2);
            queries = scratch(&place, base, BLOCK * dim * 2);
            grads = scratch(&place, base, BLOCK * dim * 2);
            query_pairs = scratch(&place, base, BLOCK * dim * 2);
            grad_pairs = scratch(&place, base, BLOCK * dim * 2);
            narrow = scratch(&place, base, BLOCK * most * BLOCK * 2);
            logits = scratch(&place, base, BLOCK * most * BLOCK * 4);
            slopes = scratch(&place, base, BLOCK * most * BLOCK * 4);
            sums = scratch(&place, base, BLOCK * dim * 4);
            key_sums = scratch(&place, base, most * BLOCK * dim * 4);
            value_sums = scratch(&place, base, most * BLOCK * dim * 4);
            seen = scratch(&place, base, most * BLOCK / 16 * sizeof *seen);
            if (!base) base = aligned_alloc(64, place);
            if (!base) break;
        }
        if (!base) failed = 1;
        configure();
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t t = 0; t < texts; t++)
            for (int64_t h = 0; h < kv_heads; h++) {
                int64_t start = starts[t], length = starts[t + 1] - start, its = blocks_of(length);
                if (!base) continue;
                gather(k + (start * kv_heads + h) * dim, kv_heads * dim, length, dim, its, rows);
                transposed(rows, dim, its, keys);
                paired(rows, dim, its, pairs);
                gather(v + (start * kv_heads + h) * dim, kv_heads * dim, length, dim, its, rows);
                transposed(rows, dim, its, values);
                memset(key_sums, 0, its * BLOCK * dim * sizeof(float));
                memset(value_sums, 0, its * BLOCK * dim * sizeof(float));
                for (int64_t g = 0; g < group; g++)
                    for (int64_t query = 0; query < length; query += BLOCK) {
                        int64_t near, far, here = length - query < BLOCK ? length - query : BLOCK;
                        int64_t offset = (start + query) * heads * dim + (h * group + g) * dim;
                        stretch(query, length, window, causal, &near, &far);
                        int64_t columns = (far - near) * BLOCK, behind = near * BLOCK * dim;
                        gather(q + offset, heads * dim, here, dim, 1, queries);
                        gather(grad + offset, heads * dim, here, dim, 1, grads);
                        product(queries, dim, keys + behind, TILE, 16 * dim, logits, columns, 1, far - near, deep, 0);
                        product(grads, dim, values + behind, TILE, 16 * dim, slopes, columns, 1, far - near, deep, 0);
                        for (int64_t r = 0; r < BLOCK; r++) { /* to weights, and to the gradient of the logits */
                            int64_t low, high;
                            sight(query + r, length, window, causal, &low, &high);
                            float *weight = logits + r * columns, *slope = slopes + r * columns;
                            see(seen, columns, near * BLOCK, low, high);
                            float sum = exponentials(weight, columns, seen, scale);
                            slopes_of(weight, slope, columns, r < here ? 1.0f / sum : 0.0f, scale, narrow + r * columns);
                        }
                        product(narrow, columns, pairs + behind, BLOCK * dim, TILE, sums, dim, 1, deep, far - near, 0);
                        for (int64_t r = 0; r < here; r++)
                            for (int64_t i = 0; i < dim; i += 16) store(to_q + offset + r * heads * dim + i, from_fp32(sums + r * dim + i));
                        paired(queries, dim, 1, query_pairs);
                        paired(grads, dim, 1, grad_pairs);
                        turned(slopes, columns, columns, narrow);
                        product(narrow, BLOCK, query_pairs, 0, TILE, key_sums + behind, dim, far - near, deep, 1, 1);
                        turned(logits, columns, columns, narrow);
                        product(narrow, BLOCK, grad_pairs, 0, TILE, value_sums + behind, dim, far - near, deep, 1, 1);
                    }
                for (int64_t r = 0; r < length; r++)
                    for (int64_t i = 0; i < dim; i += 16) {
                        int64_t at = ((start + r) * kv_heads + h) * dim + i;
                        store(to_k + at, from_fp32(key_sums + r * dim + i));
                        store(to_v + at, from_fp32(value_sums + r * dim + i));
                    }
            }
        _tile_release();
        free(base);
    }
    return failed;
}
/* Of 16 keys from `key` on, those marked in `marks` [n]. */
static inline __mmask16 marked(const uint8_t *marks, int64_t n, int64_t key) {
    __mmask16 there = among(key, 0, n);
    return _mm_mask_test_epi8_mask(there, _mm_maskz_loadu_epi8(there, marks + key), _mm_set1_epi8(-1));
}

/* Attention of rows below a prompt that all of them see. q, out [tokens, heads, dim], k, v [places, kv_heads, dim], the prompt's [p, kv_heads, dim].
 * Row r has the queries cells[r · width] and on, lengths[r] of them, and the keys at places[r · keys] and on. Query i sees those marked in
 * visible [rows, width, keys]; where that is none, the keys are the queries' own tokens, and it sees those up to itself. */
int tile_tree_attention(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *prompt_k, const bf16 *prompt_v, int64_t p,
                        const int64_t *cells, const int64_t *lengths, int64_t rows, int64_t width, const int64_t *places,
                        const uint8_t *visible, int64_t keys, int64_t heads, int64_t kv_heads, int64_t dim, float scale, bf16 *out) {
    int64_t shared = blocks_of(p), most = blocks_of(keys), deep = dim / BLOCK, group = heads / kv_heads, stride = kv_heads * dim;
    int64_t whole = shared * BLOCK * dim, wide = (shared + most) * BLOCK;
    bf16 *prompt = aligned_alloc(64, (2 * kv_heads * whole + TILE) * sizeof(bf16)); /* keys and values of every head */
    int failed = !prompt;
    if (failed) return failed;
#pragma omp parallel if (rows * width * heads * dim > ALONE)
    {
        char *base = NULL;
        bf16 *lines, *own_keys, *own_values, *queries, *weights;
        float *logits, *sums;
        __mmask16 *seen;
        for (int pass = 0; pass < 2; pass++) {
            int64_t place = 0;
            lines = scratch(&place, base, (shared > most ? shared : most) * BLOCK * dim * 2);
            own_keys = scratch(&place, base, most * BLOCK * dim * 2);
            own_values = scratch(&place, base, most * BLOCK * dim * 2);
            queries = scratch(&place, base, BLOCK * dim * 2);
            weights = scratch(&place, base, BLOCK * wide * 2);
            logits = scratch(&place, base, BLOCK * wide * 4);
            sums = scratch(&place, base, BLOCK * dim * 4);
            seen = scratch(&place, base, wide / 16 * sizeof *seen);
            if (!base) base = aligned_alloc(64, place);
            if (!base) break;
        }
        if (!base) failed = 1;
        configure();
#pragma omp for schedule(dynamic)
        for (int64_t h = 0; h < kv_heads; h++) {
            if (!base) continue;
            gather(prompt_k + h * dim, stride, p, dim, shared, lines);
            transposed(lines, dim, shared, prompt + 2 * h * whole);
            gather(prompt_v + h * dim, stride, p, dim, shared, lines);
            paired(lines, dim, shared, prompt + (2 * h + 1) * whole);
        }
        if (base) see(seen, shared * BLOCK, 0, 0, p);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t h = 0; h < kv_heads; h++)
            for (int64_t r = 0; r < rows; r++) {
                if (failed) continue;
                const bf16 *shared_keys = prompt + 2 * h * whole, *shared_values = shared_keys + whole;
                const int64_t *place = places + r * keys;
                int64_t count = visible ? keys : lengths[r], its = blocks_of(count), columns = (shared + its) * BLOCK;
                for (int64_t i = 0; i < count; i++) memcpy(lines + i * dim, k + place[i] * stride + h * dim, dim * sizeof(bf16));
                memset(lines + count * dim, 0, (its * BLOCK - count) * dim * sizeof(bf16));
                transposed(lines, dim, its, own_keys);
                for (int64_t i = 0; i < count; i++) memcpy(lines + i * dim, v + place[i] * stride + h * dim, dim * sizeof(bf16));
                paired(lines, dim, its, own_values);
                for (int64_t m = 0; m < lengths[r] * group; m += BLOCK) { /* the heads that share a key head are rows of one product */
                    int64_t here = lengths[r] * group - m < BLOCK ? lengths[r] * group - m : BLOCK;
                    int64_t at[BLOCK];
                    for (int64_t j = 0; j < here; j++) {
                        at[j] = cells[r * width + (m + j) / group] * heads * dim + (h * group + (m + j) % group) * dim;
                        memcpy(queries + j * dim, q + at[j], dim * sizeof(bf16));
                    }
                    memset(queries + here * dim, 0, (BLOCK - here) * dim * sizeof(bf16));
                    product(queries, dim, shared_keys, TILE, 16 * dim, logits, columns, 1, shared, deep, 0);
                    product(queries, dim, own_keys, TILE, 16 * dim, logits + shared * BLOCK, columns, 1, its, deep, 0);
                    float inverse[BLOCK];
                    for (int64_t j = 0; j < here; j++) {
                        int64_t query = (m + j) / group;
                        __mmask16 *own = seen + shared * BLOCK / 16;
                        if (visible)
                            for (int64_t i = 0; i < its * BLOCK; i += 16) own[i / 16] = marked(visible + (r * width + query) * keys, keys, i);
                        else
                            see(own, its * BLOCK, 0, 0, query + 1);
                        inverse[j] = 1.0f / exponentials(logits + j * columns, columns, seen, scale);
                        for (int64_t i = 0; i < columns; i += 16) store(weights + j * columns + i, from_fp32(logits + j * columns + i));
                    }
                    memset(weights + here * columns, 0, (BLOCK - here) * columns * sizeof(bf16));
                    product(weights, columns, shared_values, BLOCK * dim, TILE, sums, dim, 1, deep, shared, 0);
                    product(weights + shared * BLOCK, columns, own_values, BLOCK * dim, TILE, sums, dim, 1, deep, its, 1);
                    for (int64_t j = 0; j < here; j++)
                        for (int64_t i = 0; i < dim; i += 16) store(out + at[j] + i, from_fp32(sums + j * dim + i) * inverse[j]);
                }
            }
        _tile_release();
        free(base);
    }
    free(prompt);
    return failed;
}
/* Gradients from that to what `tile_tree_attention` gives to queries that are also the keys of their row, without marks: to q, k and v at the
 * rows' tokens, and added to those of the prompt's keys and values, in fp32 [p, kv_heads, dim]. */
int tile_tree_attention_backward(const bf16 *grad, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *prompt_k, const bf16 *prompt_v,
                                 int64_t p, const int64_t *cells, const int64_t *lengths, int64_t rows, int64_t width, int64_t heads,
                                 int64_t kv_heads, int64_t dim, float scale, bf16 *to_q, bf16 *to_k, bf16 *to_v, float *to_prompt_k,
                                 float *to_prompt_v) {
    int64_t shared = blocks_of(p), most = blocks_of(width), deep = dim / BLOCK, group = heads / kv_heads, stride = kv_heads * dim;
    int64_t whole = shared * BLOCK * dim, wide = (shared + most) * BLOCK;
    bf16 *prompt = aligned_alloc(64, (3 * kv_heads * whole + TILE) * sizeof(bf16)); /* keys, their pairs and values of every head */
    /* The prompt's gradients by head and part of the rows: the same sums in the same order with any number of threads. */
    float *all_sums = calloc(2 * kv_heads * PARTS * whole + TILE, sizeof(float));
    int failed = !prompt || !all_sums;
    const int begin = !failed;
#pragma omp parallel if (begin && rows * width * heads * dim > ALONE)
    {
        char *base = NULL;
        bf16 *lines, *own_keys, *own_pairs, *own_values, *queries, *grads, *query_pairs, *grad_pairs, *narrow;
        float *logits, *slopes, *sums, *key_sums, *value_sums;
        __mmask16 *seen;
        for (int pass = 0; pass < 2 && begin; pass++) {
            int64_t place = 0;
            lines = scratch(&place, base, (shared > most ? shared : most) * BLOCK * dim * 2);
            own_keys = scratch(&place, base, most * BLOCK * dim * 2);
            own_pairs = scratch(&place, base, most * BLOCK * dim * 2);
            own_values = scratch(&place, base, most * BLOCK * dim * 2);
            queries = scratch(&place, base, BLOCK * dim * 2);
            grads = scratch(&place, base, BLOCK * dim * 2);
            query_pairs = scratch(&place, base, BLOCK * dim * 2);
            grad_pairs = scratch(&place, base, BLOCK * dim * 2);
            narrow = scratch(&place, base, BLOCK * wide * 2);
            logits = scratch(&place, base, BLOCK * wide * 4);
            slopes = scratch(&place, base, BLOCK * wide * 4);
            sums = scratch(&place, base, BLOCK * dim * 4);
            key_sums = scratch(&place, base, most * BLOCK * dim * 4);
            value_sums = scratch(&place, base, most * BLOCK * dim * 4);
            seen = scratch(&place, base, wide / 16 * sizeof *seen);
            if (!base) base = aligned_alloc(64, place);
            if (!base) break;
        }
        if (!base) failed = 1;
        configure();
#pragma omp for schedule(dynamic)
        for (int64_t h = 0; h < kv_heads; h++) {
            if (!base) continue;
            bf16 *to = prompt + 3 * h * whole;
            gather(prompt_k + h * dim, stride, p, dim, shared, lines);
            transposed(lines, dim, shared, to);
            paired(lines, dim, shared, to + whole);
            gather(prompt_v + h * dim, stride, p, dim, shared, lines);
            transposed(lines, dim, shared, to + 2 * whole);
        }
        if (base) see(seen, shared * BLOCK, 0, 0, p);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t h = 0; h < kv_heads; h++)
            for (int64_t part = 0; part < PARTS; part++) {
                const bf16 *shared_keys = prompt + 3 * h * whole, *shared_pairs = shared_keys + whole, *shared_values = shared_pairs + whole;
                float *prompt_key_sums = all_sums + 2 * (h * PARTS + part) * whole, *prompt_value_sums = prompt_key_sums + whole;
                for (int64_t r = part * rows / PARTS; r < (part + 1) * rows / PARTS && !failed; r++) {
                    int64_t count = lengths[r], start = cells[r * width], its = blocks_of(count), columns = (shared + its) * BLOCK;
                    int64_t own = shared * BLOCK, at[BLOCK];
                    gather(k + start * stride + h * dim, stride, count, dim, its, lines);
                    transposed(lines, dim, its, own_keys);
                    paired(lines, dim, its, own_pairs);
                    gather(v + start * stride + h * dim, stride, count, dim, its, lines);
                    transposed(lines, dim, its, own_values);
                    memset(key_sums, 0, its * BLOCK * dim * sizeof(float));
                    memset(value_sums, 0, its * BLOCK * dim * sizeof(float));
                    for (int64_t m = 0; m < count * group; m += BLOCK) {
                        int64_t here = count * group - m < BLOCK ? count * group - m : BLOCK;
                        for (int64_t j = 0; j < here; j++) {
                            at[j] = (start + (m + j) / group) * heads * dim + (h * group + (m + j) % group) * dim;
                            memcpy(queries + j * dim, q + at[j], dim * sizeof(bf16));
                            memcpy(grads + j * dim, grad + at[j], dim * sizeof(bf16));
                        }
                        memset(queries + here * dim, 0, (BLOCK - here) * dim * sizeof(bf16));
                        memset(grads + here * dim, 0, (BLOCK - here) * dim * sizeof(bf16));
                        product(queries, dim, shared_keys, TILE, 16 * dim, logits, columns, 1, shared, deep, 0);
                        product(queries, dim, own_keys, TILE, 16 * dim, logits + own, columns, 1, its, deep, 0);
                        product(grads, dim, shared_values, TILE, 16 * dim, slopes, columns, 1, shared, deep, 0);
                        product(grads, dim, own_values, TILE, 16 * dim, slopes + own, columns, 1, its, deep, 0);
                        for (int64_t j = 0; j < BLOCK; j++) {
                            float *weight = logits + j * columns, *slope = slopes + j * columns;
                            see(seen + own / 16, its * BLOCK, 0, 0, (m + j) / group + 1);
                            float inverse = 1.0f / exponentials(weight, columns, seen, scale);
                            slopes_of(weight, slope, columns, j < here ? inverse : 0.0f, scale, narrow + j * columns);
                        }
                        product(narrow, columns, shared_pairs, BLOCK * dim, TILE, sums, dim, 1, deep, shared, 0);
                        product(narrow + own, columns, own_pairs, BLOCK * dim, TILE, sums, dim, 1, deep, its, 1);
                        for (int64_t j = 0; j < here; j++)
                            for (int64_t i = 0; i < dim; i += 16) store(to_q + at[j] + i, from_fp32(sums + j * dim + i));
                        paired(queries, dim, 1, query_pairs);
                        paired(grads, dim, 1, grad_pairs);
                        turned(slopes, columns, columns, narrow);
                        product(narrow, BLOCK, query_pairs, 0, TILE, prompt_key_sums, dim, shared, deep, 1, 1);
                        product(narrow + own * BLOCK, BLOCK, query_pairs, 0, TILE, key_sums, dim, its, deep, 1, 1);
                        turned(logits, columns, columns, narrow);
                        product(narrow, BLOCK, grad_pairs, 0, TILE, prompt_value_sums, dim, shared, deep, 1, 1);
                        product(narrow + own * BLOCK, BLOCK, grad_pairs, 0, TILE, value_sums, dim, its, deep, 1, 1);
                    }
                    for (int64_t i = 0; i < count; i++)
                        for (int64_t d = 0; d < dim; d += 16) {
                            int64_t to = (start + i) * stride + h * dim + d;
                            store(to_k + to, from_fp32(key_sums + i * dim + d));
                            store(to_v + to, from_fp32(value_sums + i * dim + d));
                        }
                }
            }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < p; i++)
            for (int64_t h = 0; h < kv_heads && !failed; h++)
                for (int64_t part = 0; part < PARTS; part++) {
                    const float *from = all_sums + 2 * (h * PARTS + part) * whole + i * dim;
                    for (int64_t d = 0; d < dim; d++) {
                        to_prompt_k[i * stride + h * dim + d] += from[d];
                        to_prompt_v[i * stride + h * dim + d] += from[whole + d];
                    }
                }
        _tile_release();
        free(base);
    }
    free(prompt);
    free(all_sums);
    return failed;
}

#include "native_products.h"

#else
int tiles(void) { return 0; }
#endif
