/* A pass of a few tokens through a LLaMA decoder whose earlier tokens are in a key/value cache.
 *
 * native.py builds this file where there is a compiler, and has the structures' twins. Matrices are row by row, in float32
 * or bfloat16; all arithmetic is in float32. A pass of few tokens waits for the memory: every weight, key and value is
 * read once, in order, for all tokens.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && !defined(NARROW)
#define LANES 16
#define TILE 4 /* tokens that share a weight in a register */
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#define LANES 8
#define TILE 2
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#endif
#define PAIR (2 * LANES)
#define ROWS 4    /* rows of a matrix that share an input in a register */
#define CHUNK 32  /* rows that a thread takes at once */
#define KEYS 64   /* keys that stay in the cache nearest to a core while all queries see them */
#define DIMS 2    /* pairs of vectors of a value whose sums are in registers */

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (words){__VA_ARGS__})
#endif

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    const void *weight; /* rows x columns */
    const float *bias;  /* or NULL */
    int64_t rows;
} Matrix;

typedef struct {
    const float *attention_norm, *mlp_norm;
    Matrix query, key, value, out, gate, up, down;
} Layer;

typedef struct {
    const Layer *layers;
    const void *table;
    const float *norm, *cos, *sin; /* positions x dims; the first half of sin is negated */
    Matrix head;
    int64_t num_layers, width, hidden, heads, groups, dims;
    float eps;
    int32_t is_bf16; /* matrices, table, keys and values; else float32 */
} Model;

/* Keys and values of one sequence: layer by layer, group by group, `room` places of `dims` numbers. */
typedef struct {
    void *keys, *values;
    int64_t layer_stride, room; /* both in places */
} Cache;

/* Tokens [first, last) are of one row, the next after `start` own ones; `prompt` counts the places of its prompt. */
typedef struct {
    int64_t first, last, start, prompt;
    Cache own, before;
} Row;

INLINE float number(const void *base, int64_t at, int is_bf16) {
    if (!is_bf16) return ((const float *)base)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)base)[at] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void store(void *base, int64_t at, const float *x, int64_t count, int is_bf16) {
    if (!is_bf16) {
        memcpy((float *)base + at, x, count * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; i++) { /* to the nearest, ties to even */
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        ((uint16_t *)base)[at + i] = (uint16_t)((x[i] == x[i] ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000) >> 16);
    }
}

/* PAIR numbers in the order that suits a matrix: of bfloat16 those in even places, and those in odd ones, since a word
 * holds one of each. */
typedef struct {
    floats first, second;
} Pair;

INLINE Pair load(const void *base, int64_t at, int is_bf16) {
    Pair x;
    if (is_bf16) {
        words both;
        memcpy(&both, (const uint16_t *)base + at, sizeof both);
        x.first = (floats)(both << 16);
        x.second = (floats)(both & 0xffff0000);
    } else {
        memcpy(&x.first, (const float *)base + at, sizeof x.first);
        memcpy(&x.second, (const float *)base + at + LANES, sizeof x.second);
    }
    return x;
}

/* PAIR numbers of an input in the order of a matrix, and back. */
INLINE Pair ordered(const float *from, int is_bf16) {
    Pair x = load(from, 0, 0);
    return is_bf16 ? (Pair){SHUFFLE(x.first, x.second, EVEN), SHUFFLE(x.first, x.second, ODD)} : x;
}

INLINE Pair in_turn(Pair x, int is_bf16) {
    return is_bf16 ? (Pair){SHUFFLE(x.first, x.second, LOW), SHUFFLE(x.first, x.second, HIGH)} : x;
}

/* The sum of each of ROWS vectors. */
INLINE void sum_rows(const floats *x, float *out) {
    typedef float four __attribute__((vector_size(4 * ROWS)));
    four parts[LANES / ROWS];
    /* Halves are added while vectors are laced into each other. */
    const floats a = SHUFFLE(x[0], x[2], LOW) + SHUFFLE(x[0], x[2], HIGH);
    const floats b = SHUFFLE(x[1], x[3], LOW) + SHUFFLE(x[1], x[3], HIGH);
    const floats all = SHUFFLE(a, b, LOW) + SHUFFLE(a, b, HIGH);
    memcpy(parts, &all, sizeof all);
    for (int step = LANES / ROWS / 2; step; step /= 2)
        for (int i = 0; i < step; i++) parts[i] += parts[i + step];
    memcpy(out, parts, sizeof parts[0]);
}

INLINE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
    float power = floorf(x * 1.44269504f + 0.5f);
    x = x - power * 0.693359375f + power * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * x + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    int32_t bits = ((int32_t)power + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return y * scale;
}

/* out[token][row] = or += x[token] . matrix[row] (+ bias), for `rows` (at most ROWS) and `tokens` (at most TILE). */
INLINE void dot_tile(const void *matrix, const float *bias, int64_t columns, const float *x, int64_t x_stride, float *out,
                     int64_t out_stride, int rows, int tokens, int adds, int is_bf16) {
    floats sums[TILE][ROWS];
    for (int t = 0; t < tokens; t++)
        for (int r = 0; r < ROWS; r++) sums[t][r] = (floats){0};
    int64_t i = 0;
    for (; i + PAIR <= columns; i += PAIR) {
        Pair weights[ROWS];
        for (int r = 0; r < rows; r++) weights[r] = load(matrix, r * columns + i, is_bf16);
        for (int t = 0; t < tokens; t++) {
            const Pair input = ordered(x + t * x_stride + i, is_bf16);
            for (int r = 0; r < rows; r++) sums[t][r] += weights[r].first * input.first;
            for (int r = 0; r < rows; r++) sums[t][r] += weights[r].second * input.second;
        }
    }
    for (int t = 0; t < tokens; t++) {
        float totals[ROWS], *place = out + t * out_stride;
        sum_rows(sums[t], totals);
        for (int r = 0; r < rows; r++) {
            for (int64_t k = i; k < columns; k++)
                totals[r] += number(matrix, r * columns + k, is_bf16) * x[t * x_stride + k];
            if (bias) totals[r] += bias[r];
            place[r] = adds ? place[r] + totals[r] : totals[r];
        }
    }
}

INLINE void dot_rows(const void *matrix, const float *bias, int64_t rows, int64_t columns, const float *x, int64_t x_stride,
                     int64_t tokens, float *out, int64_t out_stride, int adds, int is_bf16) {
    for (int64_t r = 0, step; r < rows; r += step) {
        step = rows - r < ROWS ? 1 : ROWS;
        const void *at = (const char *)matrix + r * columns * (is_bf16 ? 2 : 4);
        const float *b = bias ? bias + r : NULL;
        for (int64_t t = 0, left; left = tokens - t, left > 0; t += step < ROWS ? 1 : TILE) {
            const float *in = x + t * x_stride;
            float *to = out + t * out_stride + r;
            /* Sizes are constants, so that sums stay in registers. */
#define DOT(rows, tokens) dot_tile(at, b, columns, in, x_stride, to, out_stride, rows, tokens, adds, is_bf16)
            if (step < ROWS)
                DOT(1, 1);
            else if (left >= TILE)
                DOT(ROWS, TILE);
            else if (left == 1)
                DOT(ROWS, 1);
            else if (left == 2)
                DOT(ROWS, 2);
            else
                DOT(ROWS, TILE - 1);
#undef DOT
        }
    }
}

/* The same for any number of rows and tokens. */
static void dot(const void *matrix, const float *bias, int64_t rows, int64_t columns, const float *x, int64_t x_stride,
                int64_t tokens, float *out, int64_t out_stride, int adds, int is_bf16) {
    if (is_bf16)
        dot_rows(matrix, bias, rows, columns, x, x_stride, tokens, out, out_stride, adds, 1);
    else
        dot_rows(matrix, bias, rows, columns, x, x_stride, tokens, out, out_stride, adds, 0);
}

/* Several matrices with the same input, outputs side by side; called by all threads. */
static void linear(const Matrix *matrices, int count, int64_t columns, const float *x, int64_t x_stride, int64_t tokens,
                   float *out, int64_t out_stride, int adds, int is_bf16) {
    int64_t chunks = 0;
    for (int m = 0; m < count; m++) chunks += (matrices[m].rows + CHUNK - 1) / CHUNK;
#pragma omp for schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t chunk = c, first = 0;
        const Matrix *matrix = matrices;
        for (int64_t own; chunk >= (own = (matrix->rows + CHUNK - 1) / CHUNK); matrix++) {
            chunk -= own;
            first += matrix->rows;
        }
        const int64_t row = chunk * CHUNK, left = matrix->rows - row, rows = left < CHUNK ? left : CHUNK;
        dot((const char *)matrix->weight + row * columns * (is_bf16 ? 2 : 4), matrix->bias ? matrix->bias + row : NULL, rows,
            columns, x, x_stride, tokens, out + first + row, out_stride, adds, is_bf16);
    }
}

static void rms_norm(const float *x, const float *weight, int64_t width, float eps, float *out) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += x[i] * x[i];
    const float scale = 1.0f / sqrtf(squares / (float)width + eps);
    for (int64_t i = 0; i < width; i++) out[i] = weight[i] * (x[i] * scale);
}

static void rotate(float *x, const float *cos, const float *sin, int64_t dims, float scale) {
    const int64_t half = dims / 2;
    for (int64_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = (a * cos[i] + b * sin[i]) * scale;
        x[i + half] = (b * cos[i + half] + a * sin[i + half]) * scale;
    }
}

static void softmax(float *x, int64_t count) {
    float most = x[0], total = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++) total += x[i] = exponential(x[i] - most);
    const float scale = 1.0f / total;
    for (int64_t i = 0; i < count; i++) x[i] *= scale;
}

/* out[query] += weights[query] . values, for `queries` (at most TILE) and `pairs` (at most DIMS) of their numbers. */
INLINE void mix_tile(const void *values, int64_t count, int64_t dims, int64_t at, const float *weights, int64_t stride,
                     float *out, int queries, int pairs, int is_bf16) {
    Pair sums[TILE][DIMS];
    for (int q = 0; q < queries; q++)
        for (int p = 0; p < pairs; p++) sums[q][p] = (Pair){{0}, {0}};
    for (int64_t k = 0; k < count; k++)
        for (int p = 0; p < pairs; p++) {
            const Pair value = load(values, k * dims + at + p * PAIR, is_bf16);
            for (int q = 0; q < queries; q++) {
                sums[q][p].first += weights[q * stride + k] * value.first;
                sums[q][p].second += weights[q * stride + k] * value.second;
            }
        }
    for (int q = 0; q < queries; q++)
        for (int p = 0; p < pairs; p++) {
            float *place = out + q * dims + at + p * PAIR;
            const Pair before = load(place, 0, 0), more = in_turn(sums[q][p], is_bf16);
            const floats first = before.first + more.first, second = before.second + more.second;
            memcpy(place, &first, sizeof first);
            memcpy(place + LANES, &second, sizeof second);
        }
}

INLINE void mix_some(const void *values, int64_t count, int64_t dims, const float *weights, int64_t stride, float *out,
                     int queries, int is_bf16) {
    int64_t at = 0;
    for (; at + DIMS * PAIR <= dims; at += DIMS * PAIR)
        mix_tile(values, count, dims, at, weights, stride, out, queries, DIMS, is_bf16);
    for (; at + PAIR <= dims; at += PAIR) mix_tile(values, count, dims, at, weights, stride, out, queries, 1, is_bf16);
    for (; at < dims; at++)
        for (int q = 0; q < queries; q++)
            for (int64_t k = 0; k < count; k++)
                out[q * dims + at] += weights[q * stride + k] * number(values, k * dims + at, is_bf16);
}

INLINE void mix_all(const void *values, int64_t count, int64_t dims, const float *weights, int64_t stride, int64_t queries,
                    float *out, int is_bf16) {
    int64_t q = 0;
    for (; q + TILE <= queries; q += TILE)
        mix_some(values, count, dims, weights + q * stride, stride, out + q * dims, TILE, is_bf16);
    for (; q < queries; q++) mix_some(values, count, dims, weights + q * stride, stride, out + q * dims, 1, is_bf16);
}

/* The same for any number of queries and all their numbers. */
static void mix(const void *values, int64_t count, int64_t dims, const float *weights, int64_t stride, int64_t queries,
                float *out, int is_bf16) {
    if (is_bf16)
        mix_all(values, count, dims, weights, stride, queries, out, 1);
    else
        mix_all(values, count, dims, weights, stride, queries, out, 0);
}

/* Attention of a group of heads in a layer, of the tokens of rows [row, row_end), which continue one prompt.
 * queries and out: token by token, of each the heads of the group, x dims; scores: the same x stride. */
static void attend_group(const Model *model, const Row *row, const Row *row_end, int64_t layer, int64_t group,
                         const float *queries, float *out, float *scores, int64_t stride) {
    const int is_bf16 = model->is_bf16;
    const int64_t dims = model->dims, shared = model->heads / model->groups, size = is_bf16 ? 2 : 4;
    const int64_t first = row->first, count = (row_end[-1].last - first) * shared, before = row->prompt;
#define PLACE(cache, what, k) \
    ((const char *)(cache).what + (layer * (cache).layer_stride + group * (cache).room + (k)) * dims * size)
#define EACH_BLOCK(length) \
    for (int64_t k = 0, n; n = (length) - k < KEYS ? (length) - k : KEYS, k < (length); k += KEYS)
    EACH_BLOCK(before)
    dot(PLACE(row->before, keys, k), NULL, n, dims, queries, dims, count, scores + k, stride, 0, is_bf16);
    for (const Row *r = row; r < row_end; r++) {
        const int64_t at = (r->first - first) * shared, own = (r->last - r->first) * shared;
        const int64_t length = r->start + r->last - r->first;
        EACH_BLOCK(length)
        dot(PLACE(r->own, keys, k), NULL, n, dims, queries + at * dims, dims, own, scores + at * stride + before + k, stride, 0,
            is_bf16);
        for (int64_t q = 0; q < own; q++) { /* a token does not see those behind it */
            float *of_query = scores + (at + q) * stride;
            const int64_t seen = before + r->start + q / shared + 1;
            softmax(of_query, seen);
            memset(of_query + seen, 0, (before + length - seen) * sizeof(float));
        }
    }
    memset(out, 0, count * dims * sizeof(float));
    EACH_BLOCK(before)
    mix(PLACE(row->before, values, k), n, dims, scores + k, stride, count, out, is_bf16);
    for (const Row *r = row; r < row_end; r++) {
        const int64_t at = (r->first - first) * shared, own = (r->last - r->first) * shared;
        EACH_BLOCK(r->start + r->last - r->first)
        mix(PLACE(r->own, values, k), n, dims, scores + at * stride + before + k, stride, own, out + at * dims, is_bf16);
    }
#undef PLACE
#undef EACH_BLOCK
}

/* Rotate query and key, keep key and value, and attend; called by all threads.
 *
 * packed: tokens x (heads + 2 groups) x dims, which is written over; out: tokens x heads x dims.
 * scratch: tokens x heads x (2 dims + stride). */
static void attention(const Model *model, const Row *rows, int64_t num_rows, int64_t layer, float *packed,
                      int64_t packed_stride, float *out, float *scratch, int64_t stride) {
    const int64_t dims = model->dims, heads = model->heads, groups = model->groups, shared = heads / groups;
    const int64_t num_tokens = rows[num_rows - 1].last;
    float *queries = scratch, *attended = queries + num_tokens * heads * dims; /* group by group, token by token */
    float *scores = attended + num_tokens * heads * dims;
#pragma omp for
    for (int64_t r = 0; r < num_rows; r++)
        for (int64_t t = rows[r].first; t < rows[r].last; t++) {
            const Row *row = rows + r;
            const int64_t place = row->start + t - row->first, position = row->prompt + place;
            const float *cos = model->cos + position * dims, *sin = model->sin + position * dims;
            float *query = packed + t * packed_stride, *key = query + heads * dims, *value = key + groups * dims;
            for (int64_t h = 0; h < heads; h++) {
                const int64_t at = (h / shared * num_tokens + t) * shared + h % shared;
                rotate(query + h * dims, cos, sin, dims, 1.0f / sqrtf((float)dims));
                memcpy(queries + at * dims, query + h * dims, dims * sizeof(float));
            }
            for (int64_t g = 0; g < groups; g++) {
                const int64_t at = (layer * row->own.layer_stride + g * row->own.room + place) * dims;
                rotate(key + g * dims, cos, sin, dims, 1.0f);
                store(row->own.keys, at, key + g * dims, dims, model->is_bf16);
                store(row->own.values, at, value + g * dims, dims, model->is_bf16);
            }
        }
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < num_rows * groups; item++) {
        const int64_t r = item / groups, g = item % groups;
        const Row *row = rows + r, *end = row + 1;
        if (r && row->prompt && row[-1].before.keys == row->before.keys) continue; /* with the row before */
        while (row->prompt && end < rows + num_rows && end->before.keys == row->before.keys) end++;
        const int64_t at = (g * num_tokens + row->first) * shared;
        attend_group(model, row, end, layer, g, queries + at * dims, attended + at * dims, scores + at * stride, stride);
        for (int64_t t = row->first; t < end[-1].last; t++)
            memcpy(out + (t * heads + g * shared) * dims, attended + (g * num_tokens + t) * shared * dims,
                   shared * dims * sizeof(float));
    }
}

/* Read the tokens of every row, and write keys, values and logits (tokens x codes).
 *
 * scratch: numbers for tokens x (2 width + wide + heads x (3 dims + stride)), where wide is the larger of 2 hidden and
 * (heads + 2 groups) x dims. stride: at least the longest row with its prompt. */
void delvm_decode(const Model *model, const Row *rows, int64_t num_rows, const int64_t *tokens, float *logits, float *scratch,
                  int64_t stride, int num_threads) {
    const int64_t num_tokens = rows[num_rows - 1].last, width = model->width, inner = model->heads * model->dims;
    const int64_t packed = inner + 2 * model->groups * model->dims, both = 2 * model->hidden;
    const int64_t wide = both > packed ? both : packed;
    const int is_bf16 = model->is_bf16;
    float *hidden = scratch, *normed = hidden + num_tokens * width, *outputs = normed + num_tokens * width;
    float *attended = outputs + num_tokens * wide, *rest = attended + num_tokens * inner;
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for
        for (int64_t t = 0; t < num_tokens; t++) {
            for (int64_t i = 0; i < width; i++)
                hidden[t * width + i] = number(model->table, tokens[t] * width + i, is_bf16);
            rms_norm(hidden + t * width, model->layers->attention_norm, width, model->eps, normed + t * width);
        }
        for (int64_t l = 0; l < model->num_layers; l++) {
            const Layer *layer = model->layers + l;
            linear(&layer->query, 3, width, normed, width, num_tokens, outputs, wide, 0, is_bf16);
            attention(model, rows, num_rows, l, outputs, wide, attended, rest, stride);
            linear(&layer->out, 1, inner, attended, inner, num_tokens, hidden, width, 1, is_bf16);
#pragma omp for
            for (int64_t t = 0; t < num_tokens; t++)
                rms_norm(hidden + t * width, layer->mlp_norm, width, model->eps, normed + t * width);
            linear(&layer->gate, 2, width, normed, width, num_tokens, outputs, wide, 0, is_bf16);
#pragma omp for
            for (int64_t t = 0; t < num_tokens; t++) {
                float *gate = outputs + t * wide, *up = gate + model->hidden;
                for (int64_t i = 0; i < model->hidden; i++) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
            }
            linear(&layer->down, 1, model->hidden, outputs, wide, num_tokens, hidden, width, 1, is_bf16);
            const float *norm = l + 1 < model->num_layers ? layer[1].attention_norm : model->norm;
#pragma omp for
            for (int64_t t = 0; t < num_tokens; t++)
                rms_norm(hidden + t * width, norm, width, model->eps, normed + t * width);
        }
        linear(&model->head, 1, width, normed, width, num_tokens, logits, model->head.rows, 0, is_bf16);
    }
}

/* Only the attention of one layer, for passes whose matrices are multiplied elsewhere; see attention(). */
void delvm_attend(const Model *model, const Row *rows, int64_t num_rows, int64_t layer, float *packed, float *out,
                  float *scratch, int64_t stride, int num_threads) {
    const int64_t packed_stride = (model->heads + 2 * model->groups) * model->dims;
#pragma omp parallel num_threads(num_threads)
    attention(model, rows, num_rows, layer, packed, packed_stride, out, scratch, stride);
}
