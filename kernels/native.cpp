// The kernels of the `native` backend: what plain torch cannot do well on a CPU.
//
// Plain C interface, no headers of torch: pointers to contiguous float32 data and to int32 or int64 indices (`wide`).
// A structure is rows of edges (indptr, indices) or columns of them (t_indptr, t_indices, with perm to the row order).
// Every sum has one order, which hangs on the structure alone: the same bits for any number of threads, no atomics.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

// ------------------------------------------------------------------ sixteen numbers at once

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef float Half __attribute__((vector_size(2 * LANES)));
constexpr float NONE = -std::numeric_limits<float>::infinity();

template <class V> inline V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class V> inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
inline Floats all(float x) { return x - Floats{}; }

inline float sum(Half v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
inline float sum(Floats v) {
    Half parts[2];
    std::memcpy(parts, &v, sizeof v);
    return sum(parts[0] + parts[1]);
}

// exp by 2^n p(r), within two units in the last place; 0 below -87, NaN for NaN.
inline Floats exponential(Floats x) {
    constexpr float shift = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
    const Floats low = all(-87.f), high = all(88.f);
    const Floats bounded = x < low ? low : (x > high ? high : x);
    const Floats rounded = bounded * 1.44269504f + shift, n = rounded - shift;
    const Floats r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    const Ints power = ((Ints)rounded - 0x4B400000 + 127) << 23;
    return x < low ? Floats{} : p * (Floats)power;
}
inline float exponential(float x) { return exponential(all(x))[0]; }

inline float dot(const float* a, const float* b, int64_t n) {
    int64_t i = 0;
    float total = 0;
    if (n >= LANES) {
        Floats lanes = load<Floats>(a) * load<Floats>(b);
        for (i = LANES; i + LANES <= n; i += LANES) lanes += load<Floats>(a + i) * load<Floats>(b + i);
        total = sum(lanes);
    }
    if (i + LANES / 2 <= n) {
        total += sum(load<Half>(a + i) * load<Half>(b + i));
        i += LANES / 2;
    }
    for (; i < n; ++i) total += a[i] * b[i];
    return total;
}

// y[i] = op(y[i], x[i] ...) by sixteen, by eight and by one: op takes vectors and numbers alike.
template <class Op, class... X> inline void each(int64_t n, Op op, float* y, const X*... x) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(y + i, op(load<Floats>(y + i), load<Floats>(x + i)...));
    if (i + LANES / 2 <= n) {
        store(y + i, op(load<Half>(y + i), load<Half>(x + i)...));
        i += LANES / 2;
    }
    for (; i < n; ++i) y[i] = op(y[i], x[i]...);
}

inline void add(float* y, float w, const float* x, int64_t n) {
    each(n, [w](auto y, auto x) { return y + w * x; }, y, x);
}

inline void prefetch(const float* p, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) __builtin_prefetch(p + i);
}

// ------------------------------------------------------------------ rows over threads

constexpr int64_t RUN = 2048;  // the most edges that are added up one after the other: longer rows are cut into runs
constexpr int64_t BLOCK = 64;  // edges whose scores are held at once

// First rows of `parts` parts of rows with about as many edges (and rows) each.
template <class I> std::vector<int64_t> parts_of(const I* indptr, int64_t rows, int64_t parts) {
    std::vector<int64_t> first(parts + 1, rows);
    const int64_t work = rows ? int64_t(indptr[rows]) + rows : 0;
    for (int64_t p = 0; p < parts; ++p) {
        int64_t low = 0, high = rows;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (int64_t(indptr[middle]) + middle < work / parts * p) low = middle + 1;
            else high = middle;
        }
        first[p] = p ? low : 0;
    }
    return first;
}

// For every row: run(row, begin, end, state) over its edges, finish(row, state), sweep(row, begin, end, state) over its
// edges again. A long row goes in runs, with a state of `width` floats each, which join(state, other) puts together
// from first to last; so a hub keeps all threads busy.
template <class I, class Run, class Join, class Finish, class Sweep>
void each_row(const I* indptr, int64_t rows, int threads, int64_t width, Run run, Join join, Finish finish, Sweep sweep) {
    struct Piece {
        int64_t row, begin, end, first;  // first: of the same row's pieces
    };
    std::vector<Piece> pieces;
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t begin = indptr[row], end = indptr[row + 1], first = int64_t(pieces.size());
        if (end - begin > RUN)
            for (int64_t at = begin; at < end; at += RUN) pieces.push_back({row, at, std::min(at + RUN, end), first});
    }
    const int64_t count = int64_t(pieces.size());
    std::vector<float> partial(count * width);
    const std::vector<int64_t> first = parts_of(indptr, rows, threads == 1 ? 1 : 8 * threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<float> state(width);
#pragma omp for schedule(dynamic) nowait
        for (int64_t i = 0; i < count; ++i) run(pieces[i].row, pieces[i].begin, pieces[i].end, &partial[i * width]);
#pragma omp for schedule(dynamic)
        for (int64_t part = 0; part < int64_t(first.size()) - 1; ++part)
            for (int64_t row = first[part]; row < first[part + 1]; ++row) {
                const int64_t begin = indptr[row], end = indptr[row + 1];
                if (end - begin > RUN) continue;
                run(row, begin, end, state.data());
                finish(row, state.data());
                sweep(row, begin, end, state.data());
            }
#pragma omp single
        for (int64_t i = 0; i < count; ++i) {
            float* own = &partial[pieces[i].first * width];
            if (pieces[i].first != i) join(own, &partial[i * width]);
            if (i + 1 == count || pieces[i + 1].row != pieces[i].row) finish(pieces[i].row, own);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < count; ++i)
            sweep(pieces[i].row, pieces[i].begin, pieces[i].end, &partial[pieces[i].first * width]);
    }
}

const auto no_finish = [](int64_t, float*) {};
const auto no_sweep = [](int64_t, int64_t, int64_t, float*) {};

// ------------------------------------------------------------------ sums and products

template <class I>
void spmm(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows,
          int64_t heads, int64_t channels, int threads) {
    const int64_t width = heads * channels;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t, int64_t begin, int64_t end, float* y) {
            std::fill_n(y, width, 0.f);
            for (int64_t e = begin; e < end; ++e) {
                if (e + 8 < end) prefetch(x + int64_t(indices[e + 8]) * width, width);
                const float *w = weight + e * heads, *row = x + int64_t(indices[e]) * width;
                for (int64_t h = 0; h < heads; ++h) add(y + h * channels, w[h], row + h * channels, channels);
            }
        },
        [=](float* y, const float* other) { add(y, 1.f, other, width); },
        [=](int64_t row, float* y) { std::copy_n(y, width, out + row * width); }, no_sweep);
}

template <class I>
void sddmm(const I* target, const I* source, const float* a, const float* b, float* out, int64_t edges, int64_t heads,
           int64_t channels, int threads) {
    const int64_t width = heads * channels;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t e = 0; e < edges; ++e) {
        if (e + 8 < edges) prefetch(b + int64_t(source[e + 8]) * width, width);
        const float *x = a + int64_t(target[e]) * width, *y = b + int64_t(source[e]) * width;
        for (int64_t h = 0; h < heads; ++h) out[e * heads + h] += dot(x + h * channels, y + h * channels, channels);
    }
}

// ------------------------------------------------------------------ largest and smallest

// y = the larger (or smaller) of y and w x; NaN wins.
inline void extreme(float* y, float w, const float* x, int64_t n, bool largest) {
    if (largest) each(n, [w](auto y, auto x) { return (w * x > y) | (x != x) ? w * x : y; }, y, x);
    else each(n, [w](auto y, auto x) { return (w * x < y) | (x != x) ? w * x : y; }, y, x);
}

template <class I>
void extremum(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows,
              int64_t heads, int64_t channels, int largest, int threads) {
    const int64_t width = heads * channels;
    const float start = largest ? NONE : -NONE;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t, int64_t begin, int64_t end, float* y) {
            std::fill_n(y, width, begin == end ? 0.f : start);
            for (int64_t e = begin; e < end; ++e) {
                if (e + 8 < end) prefetch(x + int64_t(indices[e + 8]) * width, width);
                const float* row = x + int64_t(indices[e]) * width;
                for (int64_t h = 0; h < heads; ++h)
                    extreme(y + h * channels, weight ? weight[e * heads + h] : 1.f, row + h * channels, channels, largest);
            }
        },
        [=](float* y, const float* other) { extreme(y, 1.f, other, width, largest); },
        [=](int64_t row, float* y) { std::copy_n(y, width, out + row * width); }, no_sweep);
}

// share [T, D]: the gradient of out over the number of messages that tie. With weights also their gradient [E, H].
template <class I>
void extremum_rows(const I* indptr, const I* indices, const float* weight, const float* x, const float* out,
                   const float* grad, float* share, float* grad_weight, int64_t rows, int64_t heads, int64_t channels,
                   int threads) {
    const int64_t width = heads * channels;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t t, int64_t begin, int64_t end, float* ties) {
            std::fill_n(ties, width, 0.f);
            for (int64_t e = begin; e < end; ++e) {
                if (e + 8 < end) prefetch(x + int64_t(indices[e + 8]) * width, width);
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight ? weight[e * heads + h] : 1.f;
                    const float *row = x + int64_t(indices[e]) * width, *top = out + t * width;
                    const auto tie = [w](auto y, auto x, auto top) { return w * x == top ? y + 1.f : y; };
                    each(channels, tie, ties + h * channels, row + h * channels, top + h * channels);
                }
            }
        },
        [=](float* ties, const float* other) { add(ties, 1.f, other, width); },
        [=](int64_t t, float* ties) {
            for (int64_t i = 0; i < width; ++i) share[t * width + i] = grad[t * width + i] / std::max(ties[i], 1.f);
        },
        [=](int64_t t, int64_t begin, int64_t end, float*) {
            if (!grad_weight) return;
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight ? weight[e * heads + h] : 1.f;
                    const int64_t at = t * width + h * channels;
                    const float* row = x + int64_t(indices[e]) * width + h * channels;
                    float total = 0;
#pragma omp simd reduction(+ : total)
                    for (int64_t c = 0; c < channels; ++c) total += w * row[c] == out[at + c] ? share[at + c] * row[c] : 0.f;
                    grad_weight[e * heads + h] += total;
                }
        });
}

template <class I>
void extremum_columns(const I* t_indptr, const I* t_indices, const I* perm, const float* weight, const float* x,
                      const float* out, const float* share, float* grad_x, int64_t columns, int64_t heads,
                      int64_t channels, int threads) {
    const int64_t width = heads * channels;
    each_row(
        t_indptr, columns, threads, width,
        [=](int64_t s, int64_t begin, int64_t end, float* total) {
            std::fill_n(total, width, 0.f);
            for (int64_t i = begin; i < end; ++i) {
                if (i + 8 < end) {
                    prefetch(out + int64_t(t_indices[i + 8]) * width, width);
                    prefetch(share + int64_t(t_indices[i + 8]) * width, width);
                }
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight ? weight[int64_t(perm[i]) * heads + h] : 1.f;
                    const int64_t at = int64_t(t_indices[i]) * width + h * channels;
                    const auto flow = [w](auto y, auto x, auto top, auto g) { return w * x == top ? y + w * g : y; };
                    each(channels, flow, total + h * channels, x + s * width + h * channels, out + at, share + at);
                }
            }
        },
        [=](float* total, const float* other) { add(total, 1.f, other, width); },
        [=](int64_t s, float* total) { std::copy_n(total, width, grad_x + s * width); }, no_sweep);
}

// ------------------------------------------------------------------ softmax over each row's edges

inline float safe(float top) { return top == NONE ? 0.f : top; }  // nobody heard: a shift that stays finite

// The state of a softmax, (top, total) a head, of two sets of edges as that of both; gives what each is scaled with.
inline void join_softmax(float& top, float& total, float other_top, float other_total, float& own, float& other) {
    const float shift = safe(std::max(top, other_top));
    own = exponential(top - shift), other = exponential(other_top - shift);
    top = std::max(top, other_top), total = total * own + other_total * other;
}

// A row's edges and heads lie one after the other. Where H divides 16, sixteen numbers at once have lane l at head l % H:
// body(at, count) is called with count < 16 at the end only.
template <class Body> inline void by_lanes(int64_t begin, int64_t end, Body body) {
    for (; begin + LANES <= end; begin += LANES) body(begin, LANES);
    if (begin < end) body(begin, int(end - begin));
}
inline Floats some(const float* p, int count, float rest) {
    if (count == LANES) return load<Floats>(p);
    float v[LANES];
    for (int l = 0; l < LANES; ++l) v[l] = l < count ? p[l] : rest;
    return load<Floats>(v);
}
inline void store_some(float* p, Floats v, int count) {
    if (count == LANES) return store(p, v);
    for (int l = 0; l < LANES; ++l)
        if (l < count) p[l] = v[l];
}
template <int H> inline Floats repeated(const float* p) {
    float v[LANES];
    for (int l = 0; l < LANES; ++l) v[l] = p[l % H];
    return load<Floats>(v);
}

// H: the number of heads where it divides 16, else 0.
template <class I, int H>
void softmax_of(const I* indptr, const float* score, float* out, int64_t rows, int64_t heads, int threads) {
    each_row(
        indptr, rows, threads, 2 * heads,
        [=](int64_t, int64_t begin, int64_t end, float* top) {
            float* total = top + heads;
            std::fill_n(top, heads, NONE), std::fill_n(total, heads, 0.f);
            if constexpr (H > 0) {
                Floats most = all(NONE), sums = {};
                by_lanes(begin * H, end * H, [&](int64_t at, int n) {
                    const Floats s = some(score + at, n, NONE);
                    most = (s > most) | (s != s) ? s : most;
                });
                for (int l = 0; l < LANES; ++l) top[l % H] = std::max(most[l], top[l % H]);
                Floats shift = repeated<H>(top);
                shift = shift == NONE ? Floats{} : shift;
                by_lanes(begin * H, end * H,
                         [&](int64_t at, int n) { sums += exponential(some(score + at, n, NONE) - shift); });
                for (int l = 0; l < LANES; ++l) total[l % H] += sums[l];
                return;
            }
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h) top[h] = std::max(score[e * heads + h], top[h]);
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h) total[h] += exponential(score[e * heads + h] - safe(top[h]));
        },
        [=](float* state, const float* other) {
            float a, b;
            for (int64_t h = 0; h < heads; ++h) join_softmax(state[h], state[heads + h], other[h], other[heads + h], a, b);
        },
        [=](int64_t, float* top) {
            float* total = top + heads;
            for (int64_t h = 0; h < heads; ++h) top[h] = safe(top[h]), total[h] = total[h] == 0.f ? 0.f : 1.f / total[h];
        },
        [=](int64_t, int64_t begin, int64_t end, float* shift) {
            const float* factor = shift + heads;
            if constexpr (H > 0) {
                const Floats by = repeated<H>(shift), times = repeated<H>(factor);
                by_lanes(begin * H, end * H, [&](int64_t at, int n) {
                    store_some(out + at, exponential(some(score + at, n, NONE) - by) * times, n);
                });
                return;
            }
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h)
                    out[e * heads + h] = exponential(score[e * heads + h] - shift[h]) * factor[h];
        });
}

template <class I, int H>
void softmax_grads_of(const I* indptr, const float* alpha, const float* grad, float* out, int64_t rows, int64_t heads,
                      int threads) {
    each_row(
        indptr, rows, threads, heads,
        [=](int64_t, int64_t begin, int64_t end, float* mean) {
            std::fill_n(mean, heads, 0.f);
            if constexpr (H > 0) {
                Floats sums = {};
                by_lanes(begin * H, end * H,
                         [&](int64_t at, int n) { sums += some(alpha + at, n, 0.f) * some(grad + at, n, 0.f); });
                for (int l = 0; l < LANES; ++l) mean[l % H] += sums[l];
                return;
            }
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h) mean[h] += alpha[e * heads + h] * grad[e * heads + h];
        },
        [=](float* mean, const float* other) { add(mean, 1.f, other, heads); }, no_finish,
        [=](int64_t, int64_t begin, int64_t end, float* mean) {
            if constexpr (H > 0) {
                const Floats by = repeated<H>(mean);
                by_lanes(begin * H, end * H, [&](int64_t at, int n) {
                    store_some(out + at, some(alpha + at, n, 0.f) * (some(grad + at, n, 0.f) - by), n);
                });
                return;
            }
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h)
                    out[e * heads + h] = alpha[e * heads + h] * (grad[e * heads + h] - mean[h]);
        });
}

#define BY_HEADS(name, ...)                             \
    switch (heads) {                                    \
        case 1: return name<I, 1>(__VA_ARGS__);         \
        case 2: return name<I, 2>(__VA_ARGS__);         \
        case 4: return name<I, 4>(__VA_ARGS__);         \
        case 8: return name<I, 8>(__VA_ARGS__);         \
        case 16: return name<I, 16>(__VA_ARGS__);       \
        default: return name<I, 0>(__VA_ARGS__);        \
    }

template <class I>
void softmax(const I* indptr, const float* score, float* out, int64_t rows, int64_t heads, int threads) {
    BY_HEADS(softmax_of, indptr, score, out, rows, heads, threads)
}

template <class I>
void softmax_grads(const I* indptr, const float* alpha, const float* grad, float* out, int64_t rows, int64_t heads,
                   int threads) {
    BY_HEADS(softmax_grads_of, indptr, alpha, grad, out, rows, heads, threads)
}

// ------------------------------------------------------------------ random numbers by counter

inline uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}
inline uint32_t bits(uint64_t seed, uint64_t counter) {
    return mix(mix(uint32_t(counter) ^ uint32_t(seed)) ^ uint32_t(counter >> 32) ^ uint32_t(seed >> 32));
}

}  // namespace

// ------------------------------------------------------------------ attention

// q [T, H, D], k [S, K, D] (D = 1 with `additive`), v [S, K, V], bias [E, B] or null; q and k null: the bias alone.
struct Attention {
    const float *q, *k, *v, *bias;
    int64_t heads, key_heads, dim, channels, columns;
    uint64_t seed, threshold;  // threshold 0: no dropout
    float scale, slope, kept;
    int32_t additive, threads;
};

namespace {

// scores [H][BLOCK] of up to BLOCK edges of target t and source s, -inf behind the last; edge numbers in row order.
struct Edge {
    int64_t target, source, number;
};

inline void score_block(const Attention& given, const Edge* edges, int64_t count, float* scores) {
    const Attention a = given;  // a copy of its own: stores to scores cannot change it
    const int64_t group = a.heads / a.key_heads, ends = (count + LANES - 1) / LANES * LANES;
    for (int64_t i = 0; i < count; ++i) {
        const auto [t, s, e] = edges[i];
        const float* q = a.q ? a.q + t * a.heads * a.dim : nullptr;
        const float* k = a.k ? a.k + s * a.key_heads * a.dim : nullptr;
        float* own = scores + i;
        if (!q) {
            for (int64_t h = 0; h < a.heads; ++h) own[h * BLOCK] = 0;
        } else if (a.additive) {
            for (int64_t g = 0, h = 0; g < a.key_heads; ++g)
                for (int64_t j = 0; j < group; ++j, ++h) {
                    const float reach = q[h] + k[g];
                    own[h * BLOCK] = a.scale * (reach > 0 ? reach : a.slope * reach);
                }
        } else {
            for (int64_t g = 0, h = 0; g < a.key_heads; ++g)
                for (int64_t j = 0; j < group; ++j, ++h) own[h * BLOCK] = a.scale * dot(q + h * a.dim, k + g * a.dim, a.dim);
        }
        if (a.bias)
            for (int64_t h = 0; h < a.heads; h += a.columns)
                for (int64_t j = 0; j < a.columns; ++j) own[(h + j) * BLOCK] += a.bias[e * a.columns + j];
    }
    for (int64_t h = 0; h < a.heads; ++h)
        for (int64_t i = count; i < ends; ++i) scores[h * BLOCK + i] = NONE;
}

inline float kappa(const Attention& a, int64_t edge, int64_t head) {
    return bits(a.seed, uint64_t(edge * a.heads + head)) >= a.threshold ? a.kept : 0.f;
}

// Scores to exp(score - shift) in place; gives their sum.
inline float exponentials(float* scores, int64_t count, float shift) {
    Floats total = {};
    for (int64_t i = 0; i < count; i += LANES) {
        const Floats each = exponential(load<Floats>(scores + i) - shift);
        store(scores + i, each), total += each;
    }
    return sum(total);
}

inline float largest(const float* scores, int64_t count) {
    Floats most = load<Floats>(scores);
    for (int64_t i = LANES; i < count; i += LANES) {
        const Floats s = load<Floats>(scores + i);
        most = (s > most) | (s != s) ? s : most;
    }
    Half parts[2];
    std::memcpy(parts, &most, sizeof most);
    const Half half = (parts[0] > parts[1]) | (parts[0] != parts[0]) ? parts[0] : parts[1];
    float top = half[0];
    for (int l = 1; l < LANES / 2; ++l) top = (half[l] > top) | (half[l] != half[l]) ? half[l] : top;
    return top;
}

template <class I>
void attend(const I* indptr, const I* indices, const Attention a, float* out, float* lse, int64_t rows) {
    const int64_t heads = a.heads, channels = a.channels, group = heads / a.key_heads;
    const int64_t width = heads * channels, values = a.key_heads * channels;
    each_row(
        indptr, rows, a.threads, 2 * heads + width + heads * BLOCK,
        [=](int64_t t, int64_t begin, int64_t end, float* top) {  // an online softmax, a block of edges at a time
            float *total = top + heads, *y = total + heads, *scores = y + width;
            std::fill_n(top, heads, NONE), std::fill_n(total, heads + width, 0.f);
            Edge edges[BLOCK];
            for (int64_t at = begin; at < end; at += BLOCK) {
                const int64_t count = std::min(BLOCK, end - at);
                for (int64_t i = 0; i < count; ++i) {
                    edges[i] = {t, int64_t(indices[at + i]), at + i};
                    if (a.k) prefetch(a.k + edges[i].source * a.key_heads * a.dim, a.key_heads * a.dim);
                }
                for (int64_t i = 0; i < count; ++i) prefetch(a.v + edges[i].source * values, values);
                score_block(a, edges, count, scores);
                for (int64_t h = 0; h < heads; ++h) {
                    float* own = scores + h * BLOCK;
                    const float most = largest(own, count);
                    if (most > top[h] || most != most) {
                        if (at > begin) {
                            const float rescale = exponential(top[h] - safe(most));
                            total[h] *= rescale;
                            for (int64_t c = 0; c < channels; ++c) y[h * channels + c] *= rescale;
                        }
                        top[h] = most;
                    }
                    total[h] += exponentials(own, count, safe(top[h]));
                    if (a.threshold)
                        for (int64_t i = 0; i < count; ++i) own[i] *= kappa(a, at + i, h);
                }
                for (int64_t i = 0; i < count; ++i) {
                    const float* v = a.v + edges[i].source * values;
                    for (int64_t g = 0, h = 0; g < a.key_heads; ++g)
                        for (int64_t j = 0; j < group; ++j, ++h)
                            add(y + h * channels, scores[h * BLOCK + i], v + g * channels, channels);
                }
            }
        },
        [=](float* state, const float* other) {
            for (int64_t h = 0; h < heads; ++h) {
                float own, his, *y = state + 2 * heads + h * channels;
                join_softmax(state[h], state[heads + h], other[h], other[heads + h], own, his);
                const float* z = other + 2 * heads + h * channels;
                for (int64_t c = 0; c < channels; ++c) y[c] = y[c] * own + z[c] * his;
            }
        },
        [=](int64_t t, float* top) {
            const float *total = top + heads, *y = total + heads;
            for (int64_t h = 0; h < heads; ++h) {
                const float inverse = total[h] == 0.f ? 0.f : 1.f / total[h];
                lse[t * heads + h] = safe(top[h]) + std::log(total[h]);
                for (int64_t c = 0; c < channels; ++c) out[t * width + h * channels + c] = y[h * channels + c] * inverse;
            }
        },
        no_sweep);
}

// Gradients of k and v, a column of edges at a time, and those of the scores, flow [E, H] in the transpose's order.
template <class I>
void attend_columns(const I* t_indptr, const I* t_indices, const I* perm, const Attention a, const float* lse,
                    const float* delta, const float* grad, float* flow, float* grad_k, float* grad_v, int64_t columns) {
    const int64_t heads = a.heads, channels = a.channels, group = heads / a.key_heads, width = heads * channels;
    const int64_t keys = a.k ? a.key_heads * a.dim : 0, values = a.key_heads * channels;
    each_row(
        t_indptr, columns, a.threads, keys + values + heads * BLOCK,
        [=](int64_t s, int64_t begin, int64_t end, float* dk) {
            float *dv = dk + keys, *scores = dv + values;
            std::fill_n(dk, keys + values, 0.f);
            Edge edges[BLOCK];
            for (int64_t at = begin; at < end; at += BLOCK) {
                const int64_t count = std::min(BLOCK, end - at);
                for (int64_t i = 0; i < count; ++i) {
                    edges[i] = {int64_t(t_indices[at + i]), s, int64_t(perm[at + i])};
                    if (a.q) prefetch(a.q + edges[i].target * heads * a.dim, heads * a.dim);
                    prefetch(lse + edges[i].target * heads, heads);
                    prefetch(delta + edges[i].target * heads, heads);
                }
                for (int64_t i = 0; i < count; ++i) prefetch(grad + edges[i].target * width, width);
                score_block(a, edges, count, scores);
                for (int64_t h = 0; h < heads; ++h) {
                    float* own = scores + h * BLOCK;
                    for (int64_t i = 0; i < count; ++i) own[i] -= safe(lse[edges[i].target * heads + h]);
                    exponentials(own, count, 0.f);
                }
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t t = edges[i].target, e = edges[i].number;
                    const float *v = a.v + s * values, *q = a.q ? a.q + t * heads * a.dim : nullptr;
                    for (int64_t g = 0, h = 0; g < a.key_heads; ++g)
                        for (int64_t j = 0; j < group; ++j, ++h) {
                            const float alpha = scores[h * BLOCK + i], *out = grad + t * width + h * channels;
                            const float share = a.threshold ? alpha * kappa(a, e, h) : alpha;
                            const float ds = share * dot(out, v + g * channels, channels) - alpha * delta[t * heads + h];
                            flow[(at + i) * heads + h] = ds;
                            add(dv + g * channels, share, out, channels);
                            if (!q) continue;
                            if (!a.additive) add(dk + g * a.dim, a.scale * ds, q + h * a.dim, a.dim);
                            else dk[g] += a.scale * (q[h] + a.k[s * a.key_heads + g] > 0 ? ds : ds * a.slope);
                        }
                }
            }
        },
        [=](float* total, const float* other) { add(total, 1.f, other, keys + values); },
        [=](int64_t s, float* dk) {
            std::copy_n(dk, keys, grad_k + s * keys);
            std::copy_n(dk + keys, values, grad_v + s * values);
        },
        no_sweep);
}

// Gradients of q and of the biases from flow, a row of edges at a time.
template <class I>
void attend_rows(const I* indptr, const I* indices, const I* inv_perm, const Attention a, const float* flow,
                 float* grad_q, float* grad_bias, int64_t rows) {
    const int64_t heads = a.heads, group = heads / a.key_heads, width = a.q ? heads * a.dim : 0;
    each_row(
        indptr, rows, a.threads, width,
        [=](int64_t t, int64_t begin, int64_t end, float* dq) {
            std::fill_n(dq, width, 0.f);
            const float* q = a.q + t * width;
            for (int64_t e = begin; e < end; ++e) {
                if (e + 8 < end) {
                    prefetch(flow + int64_t(inv_perm[e + 8]) * heads, heads);
                    if (a.k) prefetch(a.k + int64_t(indices[e + 8]) * a.key_heads * a.dim, a.key_heads * a.dim);
                }
                const float* ds = flow + int64_t(inv_perm[e]) * heads;
                const float* k = a.k ? a.k + int64_t(indices[e]) * a.key_heads * a.dim : nullptr;
                for (int64_t g = 0, h = 0; k && g < a.key_heads; ++g)
                    for (int64_t j = 0; j < group; ++j, ++h) {
                        if (!a.additive) add(dq + h * a.dim, a.scale * ds[h], k + g * a.dim, a.dim);
                        else dq[h] += a.scale * (q[h] + k[g] > 0 ? ds[h] : ds[h] * a.slope);
                    }
                if (!grad_bias) continue;
                std::copy_n(ds, a.columns, grad_bias + e * a.columns);
                for (int64_t h = a.columns; h < heads; h += a.columns) add(grad_bias + e * a.columns, 1.f, ds + h, a.columns);
            }
        },
        [=](float* dq, const float* other) { add(dq, 1.f, other, width); },
        [=](int64_t t, float* dq) { std::copy_n(dq, width, grad_q + t * width); }, no_sweep);
}

// ------------------------------------------------------------------ sampling

// The `fanout` edges of each given row whose random numbers are least (by edge where they tie), in the edges' order.
template <class I>
void sample(const I* indptr, const int64_t* rows, const int64_t* first, int64_t* chosen, int64_t count, int64_t fanout,
            uint64_t seed, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<std::pair<uint32_t, int64_t>> keys;
#pragma omp for schedule(dynamic, 64)
        for (int64_t i = 0; i < count; ++i) {
            const int64_t begin = indptr[rows[i]], end = indptr[rows[i] + 1];
            int64_t* own = chosen + first[i];
            if (end - begin <= fanout) {
                for (int64_t e = begin; e < end; ++e) *own++ = e;
                continue;
            }
            keys.clear();
            for (int64_t e = begin; e < end; ++e) keys.emplace_back(bits(seed, uint64_t(e)), e);
            std::nth_element(keys.begin(), keys.begin() + fanout, keys.end());
            for (int64_t j = 0; j < fanout; ++j) own[j] = keys[j].second;
            std::sort(own, own + fanout);
        }
    }
}

}  // namespace

// ------------------------------------------------------------------ the C interface

// One name for both index types.
#define HGRAPH(name, indices, ...)                         \
    if (wide) name<int64_t>(indices(int64_t) __VA_ARGS__); \
    else name<int32_t>(indices(int32_t) __VA_ARGS__);
#define AS(I, p) static_cast<const I*>(p)

extern "C" {

void hgraph_spmm(int wide, const void* indptr, const void* indices, const float* weight, const float* x, float* out,
                 int64_t rows, int64_t heads, int64_t channels, int threads) {
#define INDICES(I) AS(I, indptr), AS(I, indices),
    HGRAPH(spmm, INDICES, weight, x, out, rows, heads, channels, threads)
}

void hgraph_extremum(int wide, const void* indptr, const void* indices, const float* weight, const float* x, float* out,
                     int64_t rows, int64_t heads, int64_t channels, int largest, int threads) {
    HGRAPH(extremum, INDICES, weight, x, out, rows, heads, channels, largest, threads)
}

void hgraph_extremum_rows(int wide, const void* indptr, const void* indices, const float* weight, const float* x,
                          const float* out, const float* grad, float* share, float* grad_weight, int64_t rows,
                          int64_t heads, int64_t channels, int threads) {
    HGRAPH(extremum_rows, INDICES, weight, x, out, grad, share, grad_weight, rows, heads, channels, threads)
}

void hgraph_attend(int wide, const void* indptr, const void* indices, const Attention* a, float* out, float* lse,
                   int64_t rows) {
    HGRAPH(attend, INDICES, *a, out, lse, rows)
#undef INDICES
}

void hgraph_sddmm(int wide, const void* target, const void* source, const float* a, const float* b, float* out,
                  int64_t edges, int64_t heads, int64_t channels, int threads) {
#define INDICES(I) AS(I, target), AS(I, source),
    HGRAPH(sddmm, INDICES, a, b, out, edges, heads, channels, threads)
#undef INDICES
}

void hgraph_softmax(int wide, const void* indptr, const float* score, float* out, int64_t rows, int64_t heads,
                    int threads) {
#define INDICES(I) AS(I, indptr),
    HGRAPH(softmax, INDICES, score, out, rows, heads, threads)
}

void hgraph_softmax_grads(int wide, const void* indptr, const float* alpha, const float* grad, float* out, int64_t rows,
                          int64_t heads, int threads) {
    HGRAPH(softmax_grads, INDICES, alpha, grad, out, rows, heads, threads)
}

void hgraph_sample(int wide, const void* indptr, const int64_t* rows, const int64_t* first, int64_t* chosen,
                   int64_t count, int64_t fanout, uint64_t seed, int threads) {
    HGRAPH(sample, INDICES, rows, first, chosen, count, fanout, seed, threads)
#undef INDICES
}

void hgraph_extremum_columns(int wide, const void* t_indptr, const void* t_indices, const void* perm,
                             const float* weight, const float* x, const float* out, const float* share, float* grad_x,
                             int64_t columns, int64_t heads, int64_t channels, int threads) {
#define INDICES(I) AS(I, t_indptr), AS(I, t_indices), AS(I, perm),
    HGRAPH(extremum_columns, INDICES, weight, x, out, share, grad_x, columns, heads, channels, threads)
}

void hgraph_attend_columns(int wide, const void* t_indptr, const void* t_indices, const void* perm, const Attention* a,
                           const float* lse, const float* delta, const float* grad, float* flow, float* grad_k,
                           float* grad_v, int64_t columns) {
    HGRAPH(attend_columns, INDICES, *a, lse, delta, grad, flow, grad_k, grad_v, columns)
#undef INDICES
}

void hgraph_attend_rows(int wide, const void* indptr, const void* indices, const void* inv_perm, const Attention* a,
                        const float* flow, float* grad_q, float* grad_bias, int64_t rows) {
#define INDICES(I) AS(I, indptr), AS(I, indices), AS(I, inv_perm),
    HGRAPH(attend_rows, INDICES, *a, flow, grad_q, grad_bias, rows)
#undef INDICES
}

}  // extern "C"
