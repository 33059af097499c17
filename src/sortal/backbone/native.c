/* Element-wise parts of a decoder's step on a CPU in bfloat16: one pass over memory each, computed in fp32, rounded once to nearest even.
 *
 * Compiled and loaded by native.py, which says what every function is given; no bounds are checked here. A bfloat16 is the upper half of an
 * fp32, kept as uint16_t. GOMP symbols are those of the OpenMP library that torch has loaded, so that its number of threads holds here, too.
 */
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

/* Sixteen at a time, whatever the processor's registers hold: the compiler splits what is too wide. */
#define LANES 16
typedef float floats __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef int32_t masks __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef uint8_t bytes __attribute__((vector_size(16)));

static inline floats widened(halves x) { return (floats)(__builtin_convertvector(x, words) << 16); }

static inline floats load(const bf16 *from) {
    halves x;
    memcpy(&x, from, sizeof x);
    return widened(x);
}

/* What AVX-512 does in one instruction, and how others do it. */
#if defined(__AVX512BW__) && defined(__AVX512VL__)
static inline floats load_some(const bf16 *from, int64_t n) {
    return widened((halves)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), from));
}
static inline void put_some(bf16 *to, halves x, int64_t n) { _mm256_mask_storeu_epi16(to, (__mmask16)((1u << n) - 1u), (__m256i)x); }
static inline floats larger(floats a, floats b) { return (floats)_mm512_max_ps((__m512)a, (__m512)b); }
static inline floats smaller(floats a, floats b) { return (floats)_mm512_min_ps((__m512)a, (__m512)b); }
static inline float total(floats x) { return _mm512_reduce_add_ps((__m512)x); }
static inline float largest(floats x) { return _mm512_reduce_max_ps((__m512)x); }
static inline floats inverted(floats x) { /* one step of Newton's: to 2^-27 */
    floats guess = (floats)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
}
#else
static inline floats load_some(const bf16 *from, int64_t n) {
    halves x = {0};
    memcpy(&x, from, n * sizeof(bf16));
    return widened(x);
}
static inline void put_some(bf16 *to, halves x, int64_t n) { memcpy(to, &x, n * sizeof(bf16)); }
static inline floats either(masks where, floats yes, floats no) { return (floats)((where & (masks)yes) | (~where & (masks)no)); }
static inline floats larger(floats a, floats b) { return either(a > b, a, b); }
static inline floats smaller(floats a, floats b) { return either(a < b, a, b); }
static inline floats inverted(floats x) { return 1.0f / x; }
static inline float total(floats x) {
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}
static inline float largest(floats x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}
#endif

static inline halves narrowed(floats x) {
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else /* No NaN overflows into a number: those of a processor and those that were a bfloat16 have nothing in the lower half. */
    words bits = (words)x;
    return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, halves);
#endif
}

static inline void store(bf16 *to, floats x) {
    halves value = narrowed(x);
    memcpy(to, &value, sizeof value);
}

/* e^x within 1e-5 of itself: 2^n · 2^f with |f| <= 1/2. From -87 down e^-87, from 88 up e^88; a NaN stays one. */
static inline floats exponential(floats x) {
    x = smaller((floats){0} + 88.0f, larger((floats){0} - 87.0f, x));
    floats power = x * 1.44269504f;
    floats shifted = power + 12582912.0f; /* 1.5 · 2^23: the integer nearest to power is in the lowest bits */
    floats f = power - (shifted - 12582912.0f);
    floats value = 1.0f + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f + f * 0.00133335581f))));
    return (floats)((words)value + ((words)shifted << 23));
}

static inline floats sigmoid(floats x) { return inverted(1.0f + exponential(-x)); }

/* Work below this many elements is not worth waking threads for. */
#define ALONE 65536

/* Vectors from i on, of which the last has `left` elements. */
#define EACH(n) for (int64_t i = 0, left = (n); left > 0; i += LANES, left -= LANES)
#define GET(from) (left >= LANES ? load((from) + i) : load_some((from) + i, left))
#define PUT(to, x) (left >= LANES ? store((to) + i, x) : put_some((to) + i, narrowed(x), left))

/* What a thread takes at a time where there are no rows. */
#define CHUNK 8192

/* The first n lanes of x, and `other` in those behind. */
static inline floats only(int64_t n, floats x, float other) {
    static const masks lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    masks where = lane < (int32_t)n;
    return (floats)((where & (masks)x) | (~where & (masks)((floats){0} + other)));
}

void silu_mul(const bf16 *gate, const bf16 *up, bf16 *out, int64_t n) {
#pragma omp parallel for schedule(static) if (n > ALONE)
    for (int64_t start = 0; start < n; start += CHUNK) {
        const bf16 *g = gate + start, *u = up + start;
        bf16 *o = out + start;
        EACH(n - start < CHUNK ? n - start : CHUNK) {
            floats x = GET(g);
            PUT(o, x * sigmoid(x) * GET(u));
        }
    }
}

void silu_mul_backward(const bf16 *grad, const bf16 *gate, const bf16 *up, bf16 *grad_gate, bf16 *grad_up, int64_t n) {
#pragma omp parallel for schedule(static) if (n > ALONE)
    for (int64_t start = 0; start < n; start += CHUNK) {
        const bf16 *d = grad + start, *g = gate + start, *u = up + start;
        bf16 *to_gate = grad_gate + start, *to_up = grad_up + start;
        EACH(n - start < CHUNK ? n - start : CHUNK) {
            floats x = GET(g);
            floats s = sigmoid(x), ds = GET(d) * s;
            PUT(to_gate, ds * GET(u) * (1.0f + x * (1.0f - s)));
            PUT(to_up, ds * x);
        }
    }
}

/* One over the root of a row's mean square. */
static inline float norm_factor(const bf16 *from, int64_t hidden, float eps) {
    floats sums[4] = {{0}}; /* that need not wait for each other */
    int64_t whole = hidden / (4 * LANES) * (4 * LANES);
    for (int64_t i = 0; i < whole; i += 4 * LANES)
        for (int j = 0; j < 4; j++) {
            floats v = load(from + i + j * LANES);
            sums[j] += v * v;
        }
    const bf16 *rest = from + whole;
    EACH(hidden - whole) {
        floats v = GET(rest);
        sums[0] += v * v;
    }
    return 1.0f / sqrtf(total((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)hidden + eps);
}

void rms_norm(const bf16 *x, const bf16 *weight, bf16 *out, float *inverse, int64_t rows, int64_t hidden, float eps, int plus_one) {
    float one = plus_one ? 1.0f : 0.0f;
#pragma omp parallel for schedule(static) if (rows * hidden > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *from = x + r * hidden;
        bf16 *to = out + r * hidden;
        float factor = inverse[r] = norm_factor(from, hidden, eps);
        EACH(hidden) PUT(to, GET(from) * factor * (GET(weight) + one));
    }
}

void rms_norm_backward(const bf16 *grad, const bf16 *x, const bf16 *weight, const float *inverse, bf16 *grad_x, int64_t rows, int64_t hidden,
                       int plus_one) {
    float one = plus_one ? 1.0f : 0.0f;
#pragma omp parallel for schedule(static) if (rows * hidden > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *g = grad + r * hidden, *from = x + r * hidden;
        bf16 *to = grad_x + r * hidden;
        float factor = inverse[r];
        floats dot = {0};
        EACH(hidden) dot += GET(g) * (GET(weight) + one) * GET(from);
        float along = total(dot) / (float)hidden * factor * factor * factor;
        EACH(hidden) PUT(to, GET(g) * (GET(weight) + one) * factor - GET(from) * along);
    }
}

/* Rows of x [rows, columns] as integers from 1 to 255 and a scale each: x is (out - 128) · scale, rounded. A row that holds no number gets no scale. */
void to_bytes(const bf16 *x, uint8_t *out, bf16 *scales, int64_t rows, int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *from = x + r * columns;
        floats most = {0}, wrong = {0};
        EACH(columns) {
            floats v = GET(from);
            most = larger(most, larger(v, -v));
            wrong += v * 0.0f;
        }
        /* A little larger, so that no rounding of the scale itself makes a value overflow. */
        float scale = largest(most) * ((1.0f + 1.0f / 256.0f) / 127.0f);
        scale = total(wrong) == 0.0f ? (scale < 1e-30f ? 1e-30f : scale) : NAN;
        halves rounded = narrowed((floats){0} + scale);
        scales[r] = rounded[0];
        float inverse = 1.0f / widened(rounded)[0];
        EACH(columns) {
            floats shifted = GET(from) * inverse + 12582912.0f; /* 1.5 · 2^23: the nearest integer is in the lowest bits */
            bytes found = __builtin_convertvector((words)shifted & 0xffu, bytes) ^ 0x80;
            memcpy(out + r * columns + i, &found, left < LANES ? left : LANES);
        }
    }
}

/* x [rows, columns] times a factor per row, in place. */
void scale_rows(bf16 *x, const bf16 *factors, int64_t rows, int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        bf16 *at = x + r * columns;
        floats factor = widened((halves){0} + factors[r]);
        EACH(columns) PUT(at, GET(at) * factor);
    }
}

/* The logarithm of what e^x sums to, of every row of x [rows, columns]. */
void log_sum_exp(const bf16 *x, float *out, int64_t rows, int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *from = x + r * columns;
        floats most = {0}, sum = {0};
        most -= INFINITY;
        EACH(columns) most = larger(left >= LANES ? load(from + i) : only(left, load_some(from + i, left), -INFINITY), most);
        float highest = largest(most);
        EACH(columns) sum += only(left, exponential(GET(from) - highest), 0.0f);
        out[r] = highest + logf(total(sum));
    }
}

/* A token's heads [heads, dim] turned by its position; `to` may be `from`. */
static inline void rotate_row(const bf16 *from, const bf16 *c, const bf16 *s, bf16 *to, int64_t heads, int64_t dim) {
    int64_t half = dim / 2;
    EACH(half) {
        floats c1 = GET(c), c2 = GET(c + half), s1 = GET(s), s2 = GET(s + half);
        for (int64_t h = 0; h < heads * dim; h += dim) {
            floats a = GET(from + h), b = GET(from + h + half);
            PUT(to + h, a * c1 + b * s1);
            PUT(to + h + half, b * c2 + a * s2);
        }
    }
}

/* x [tokens, heads, dim]; cosine, sine [tokens, dim], the sign of the formula within the sine. */
void rotate(const bf16 *x, const bf16 *cosine, const bf16 *sine, bf16 *out, int64_t tokens, int64_t heads, int64_t dim) {
#pragma omp parallel for schedule(static) if (tokens * heads * dim > ALONE)
    for (int64_t t = 0; t < tokens; t++)
        rotate_row(x + t * heads * dim, cosine + t * dim, sine + t * dim, out + t * heads * dim, heads, dim);
}

/* First of the cells of a row, which are sorted. */
static int64_t first_of(const int64_t *cells, int64_t count, int64_t cell) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (cells[middle] < cell) low = middle + 1; else high = middle;
    }
    return low;
}

/* Tokens [.., heads, dim] into columns start..end of a rectangle: out [rows, heads, end - start, dim]; what holds no token is 0.
 * cells, positions [count]: cell row * width + column of a token, ascending, and its place among the tokens. */
void to_cells(const bf16 *x, const int64_t *cells, const int64_t *positions, int64_t count, bf16 *out, int64_t rows, int64_t width,
              int64_t start, int64_t end, int64_t heads, int64_t dim) {
    int64_t columns = end - start;
#pragma omp parallel for schedule(static) if (rows * columns * heads * dim > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        bf16 *row = out + r * heads * columns * dim;
        int64_t next = first_of(cells, count, r * width + start);
        for (int64_t c = 0; c < columns; c++) {
            if (next < count && cells[next] == r * width + start + c) {
                const bf16 *from = x + positions[next++] * heads * dim;
                for (int64_t h = 0; h < heads; h++) memcpy(row + (h * columns + c) * dim, from + h * dim, dim * sizeof(bf16));
            } else {
                for (int64_t h = 0; h < heads; h++) memset(row + (h * columns + c) * dim, 0, dim * sizeof(bf16));
            }
        }
    }
}

/* The way back: columns start..end of a rectangle to their tokens; cells without a token are left out. */
void from_cells(const bf16 *x, const int64_t *cells, const int64_t *positions, int64_t count, bf16 *out, int64_t rows, int64_t width,
                int64_t start, int64_t end, int64_t heads, int64_t dim) {
    int64_t columns = end - start;
#pragma omp parallel for schedule(static) if (rows * columns * heads * dim > ALONE)
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *row = x + r * heads * columns * dim;
        for (int64_t i = first_of(cells, count, r * width + start); i < count && cells[i] < r * width + end; i++) {
            int64_t c = cells[i] - r * width - start;
            bf16 *to = out + positions[i] * heads * dim;
            for (int64_t h = 0; h < heads; h++) memcpy(to + h * dim, row + (h * columns + c) * dim, dim * sizeof(bf16));
        }
    }
}

/* Keys that a query sees. */
static inline void seen(int64_t query, int64_t keys, int64_t window, int64_t *first, int64_t *last) {
    *last = query + 1 < keys ? query + 1 : keys;
    *first = query + 1 - window > 0 ? query + 1 - window : 0;
}

/* logits [rows, keys] to weights, in place: softmax of scale · logits over the keys at or before a query, at most window of them.
 * Row r holds query r % queries, which stands at offset + r % queries among the keys. */
void causal_softmax(bf16 *logits, int64_t rows, int64_t queries, int64_t keys, int64_t offset, int64_t window, float scale) {
#pragma omp parallel for schedule(static) if (rows * keys > ALONE / 4)
    for (int64_t r = 0; r < rows; r++) {
        bf16 *row = logits + r * keys;
        int64_t first, last;
        seen(offset + r % queries, keys, window, &first, &last);
        bf16 *own = row + first;
        floats most = {0}, sum = {0};
        most -= INFINITY;
        EACH(last - first) {
            most = larger(left < LANES ? only(left, GET(own), -INFINITY) : GET(own), most);
        }
        float highest = largest(most) * scale;
        EACH(last - first) {
            floats v = exponential(GET(own) * scale - highest);
            sum += left < LANES ? only(left, v, 0.0f) : v;
        }
        float factor = 1.0f / total(sum);
        EACH(last - first) PUT(own, exponential(GET(own) * scale - highest) * factor);
        memset(row, 0, first * sizeof(bf16));
        memset(row + last, 0, (keys - last) * sizeof(bf16));
    }
}

/* grad of the weights to grad of the logits, in place. */
void causal_softmax_backward(bf16 *grad, const bf16 *weights, int64_t rows, int64_t queries, int64_t keys, int64_t offset,
                             int64_t window, float scale) {
#pragma omp parallel for schedule(static) if (rows * keys > ALONE / 4)
    for (int64_t r = 0; r < rows; r++) {
        bf16 *g = grad + r * keys;
        const bf16 *w = weights + r * keys;
        int64_t first, last;
        seen(offset + r % queries, keys, window, &first, &last);
        floats dot = {0}, sum = {0}; /* of weights that were rounded: no longer 1, and what is left of a peaked row's gradient would drown */
        EACH(last - first) {
            dot += GET(g + first) * GET(w + first);
            sum += GET(w + first);
        }
        float along = total(dot) / total(sum);
        EACH(last - first) PUT(g + first, GET(w + first) * (GET(g + first) - along) * scale);
        memset(g, 0, first * sizeof(bf16));
        memset(g + last, 0, (keys - last) * sizeof(bf16));
    }
}

#include "native_tiles.h"

/* How many threads a kernel may use. */
int threads(void) { return omp_get_max_threads(); }
