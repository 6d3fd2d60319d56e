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

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// ------------------------------------------------------------------ sixteen numbers at once

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef float Half __attribute__((vector_size(2 * LANES)));
typedef float Quarter __attribute__((vector_size(LANES)));
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

#if defined(__clang__)
#define SHUFFLED(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLED(v, ...) __builtin_shuffle(v, Ints{__VA_ARGS__})
#endif
// op(op(v_l, v_{l + pad}), v_{l + 2 pad}) ... in each lane l, counted around; pad a power of two.
template <class Op> inline Floats folded(Floats v, int64_t pad, Op op) {
    if (pad <= 8) v = op(v, SHUFFLED(v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    if (pad <= 4) v = op(v, SHUFFLED(v, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3));
    if (pad <= 2) v = op(v, SHUFFLED(v, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1));
    if (pad <= 1) v = op(v, SHUFFLED(v, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0));
    return v;
}
const auto plus = [](Floats a, Floats b) { return a + b; };
const auto larger = [](Floats a, Floats b) { return (a > b) | (a != a) ? a : b; };  // NaN wins

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

// Inlined by force: a function that does nothing but prefetch has no effect that g++ knows of, and calls of it vanish.
#define INLINE inline __attribute__((always_inline))

INLINE void prefetch(const float* p, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) __builtin_prefetch(p + i);
}

// The row of x that an edge some way ahead will read, be it another target's: rows are short, memory is far.
template <class I>
INLINE void ahead(const float* x, const I* index, int64_t edge, int64_t edges, int64_t width, int64_t features) {
    constexpr int64_t DISTANCE = 8;
    if (edge + DISTANCE < edges) prefetch(x + int64_t(index[edge + DISTANCE]) * width, features);
}
template <class I> INLINE void ahead(const float* x, const I* index, int64_t edge, int64_t edges, int64_t width) {
    ahead(x, index, edge, edges, width, width);
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

// Short rows in ranges: between(first, last) for all that are not longer than RUN. A long row goes in runs,
// run(row, begin, end, state) with a state of `width` floats each, which join(state, other) puts together from first to
// last; then finish(row, state), and sweep(row, begin, end, state) over its edges again. So a hub keeps all threads busy.
template <class I, class Between, class Run, class Join, class Finish, class Sweep>
void each_range(const I* indptr, int64_t rows, int threads, int64_t width, Between between, Run run, Join join,
                Finish finish, Sweep sweep) {
    struct Piece {
        int64_t row, begin, end, first;  // first: of the same row's pieces
    };
    bool hubs = false;
    for (int64_t row = 0; row < rows; ++row) hubs |= indptr[row + 1] - indptr[row] > I(RUN);
    std::vector<Piece> pieces;
    for (int64_t row = 0; row < rows && hubs; ++row) {
        const int64_t begin = indptr[row], end = indptr[row + 1], first = int64_t(pieces.size());
        if (end - begin > RUN)
            for (int64_t at = begin; at < end; at += RUN) pieces.push_back({row, at, std::min(at + RUN, end), first});
    }
    const int64_t count = int64_t(pieces.size());
    std::vector<float> partial(count * width);
    const std::vector<int64_t> first = parts_of(indptr, rows, threads == 1 ? 1 : 8 * threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(dynamic) nowait
        for (int64_t part = 0; part < int64_t(first.size()) - 1; ++part) between(first[part], first[part + 1]);
        if (count) {  // else nobody waits for anybody
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < count; ++i) run(pieces[i].row, pieces[i].begin, pieces[i].end, &partial[i * width]);
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
}

// The same, where short rows go as long ones do: run, finish and sweep for every row.
template <class I, class Run, class Join, class Finish, class Sweep>
void each_row(const I* indptr, int64_t rows, int threads, int64_t width, Run run, Join join, Finish finish, Sweep sweep) {
    const auto between = [=](int64_t first, int64_t last) {
        std::vector<float> state(width);
        for (int64_t row = first; row < last; ++row) {
            const int64_t begin = indptr[row], end = indptr[row + 1];
            if (end - begin > RUN) continue;
            run(row, begin, end, state.data());
            finish(row, state.data());
            sweep(row, begin, end, state.data());
        }
    };
    each_range(indptr, rows, threads, width, between, run, join, finish, sweep);
}

const auto no_finish = [](int64_t, float*) {};
const auto no_sweep = [](int64_t, int64_t, int64_t, float*) {};

// ------------------------------------------------------------------ sums and products

// What a sum reads: rows of `width` features, of which one call adds up `features` from the first of x on.
template <class I> struct Summed {
    const I *indptr, *indices;
    const float *weight, *x;
    int64_t edges, features, width;
};

// y = the weighted sum over some edges, in N vectors of type V, which stay in registers. The last vector ends where the
// features do: where they do not fill it, it overlaps the one before.
template <class V, int N, class I> INLINE void sum_edges(const Summed<I>& a, int64_t begin, int64_t end, float* y) {
    constexpr int64_t SIZE = sizeof(V) / sizeof(float);
    const int64_t last = a.features - SIZE;
    V total[N] = {};
    for (int64_t e = begin; e < end; ++e) {
        ahead(a.x, a.indices, e, a.edges, a.width, N * SIZE);
        const float *row = a.x + int64_t(a.indices[e]) * a.width, w = a.weight ? a.weight[e] : 1.f;
        for (int i = 0; i < N - 1; ++i) total[i] += w * load<V>(row + i * SIZE);
        total[N - 1] += w * load<V>(row + last);
    }
    for (int i = 0; i < N - 1; ++i) store(y + i * SIZE, total[i]);
    store(y + last, total[N - 1]);
}

// The rows [first, last) into out, but for long ones; where `piece` is given, these edges of one row into it.
template <class V, int N, class I>
void sum_rows(const Summed<I>& a, int64_t first, int64_t last, float* out, float* piece) {
    if (piece) return sum_edges<V, N>(a, first, last, piece);
    for (int64_t row = first; row < last; ++row) {
        const int64_t begin = a.indptr[row], end = a.indptr[row + 1];
        if (end - begin <= RUN) sum_edges<V, N>(a, begin, end, out + row * a.width);
    }
}

// What does it for up to 128 features.
template <class I> auto sum_for(int64_t features) {
    using Rows = void (*)(const Summed<I>&, int64_t, int64_t, float*, float*);
    static const Rows by_one[] = {sum_rows<float, 1, I>, sum_rows<float, 2, I>, sum_rows<float, 3, I>};
    static const Rows by_four[] = {sum_rows<Quarter, 1, I>, sum_rows<Quarter, 2, I>};
    static const Rows by_eight[] = {sum_rows<Half, 1, I>, sum_rows<Half, 2, I>};
    static const Rows by_sixteen[] = {sum_rows<Floats, 1, I>, sum_rows<Floats, 2, I>, sum_rows<Floats, 3, I>,
                                      sum_rows<Floats, 4, I>, sum_rows<Floats, 5, I>, sum_rows<Floats, 6, I>,
                                      sum_rows<Floats, 7, I>, sum_rows<Floats, 8, I>};
    if (features < 4) return by_one[features - 1];
    if (features < 8) return by_four[(features - 1) / 4];
    return features < 16 ? by_eight[(features - 1) / 8] : by_sixteen[(features - 1) / 16];
}

template <class I>
void sum(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows, int64_t width,
         int threads) {
    const auto spans = [=](int64_t first, int64_t last, float* piece) {
        for (int64_t at = 0; at < width; at += 8 * LANES) {
            const int64_t features = std::min(width - at, int64_t(8 * LANES));
            const Summed<I> a{indptr, indices, weight, x + at, rows ? int64_t(indptr[rows]) : 0, features, width};
            sum_for<I>(features)(a, first, last, out + at, piece ? piece + at : nullptr);
        }
    };
    each_range(
        indptr, rows, threads, width, [=](int64_t first, int64_t last) { spans(first, last, nullptr); },
        [=](int64_t, int64_t begin, int64_t end, float* y) { spans(begin, end, y); },
        [=](float* y, const float* other) { add(y, 1.f, other, width); },
        [=](int64_t row, float* y) { std::copy_n(y, width, out + row * width); }, no_sweep);
}

template <class I>
void spmm(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows,
          int64_t heads, int64_t channels, int threads) {
    if (heads == 1) return sum(indptr, indices, weight, x, out, rows, channels, threads);
    const int64_t width = heads * channels, edges = rows ? int64_t(indptr[rows]) : 0;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t, int64_t begin, int64_t end, float* y) {
            std::fill_n(y, width, 0.f);
            for (int64_t e = begin; e < end; ++e) {
                ahead(x, indices, e, edges, width);
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
        ahead(b, source, e, edges, width);
        const float *x = a + int64_t(target[e]) * width, *y = b + int64_t(source[e]) * width;
        for (int64_t h = 0; h < heads; ++h) out[e * heads + h] += dot(x + h * channels, y + h * channels, channels);
    }
}

// ------------------------------------------------------------------ largest and smallest

// y = the larger (or smaller) of y and w x; NaN wins.
template <bool LARGEST> inline void extreme(float* y, float w, const float* x, int64_t n) {
    each(n, [w](auto y, auto x) { return (LARGEST ? w * x > y : w * x < y) | (w * x != w * x) ? w * x : y; }, y, x);
}

// The extremum over a row's edges of C features, kept in registers. Beside it 0 is added up as often as there are
// edges, times the message: NaN where some message is no number (or infinite). False says that NaN must be looked for.
template <bool LARGEST, int C, class I>
inline bool extreme_of_numbers(float* y, const I* indices, const float* weight, const float* x, int64_t begin, int64_t end,
                               int64_t edges) {
    Floats best[C / LANES], zero[C / LANES] = {};
    for (Floats& lanes : best) lanes = all(LARGEST ? NONE : -NONE);
    for (int64_t e = begin; e < end; ++e) {
        ahead(x, indices, e, edges, C);
        const float *row = x + int64_t(indices[e]) * C, w = weight ? weight[e] : 1.f;
        for (int i = 0; i < C / LANES; ++i) {
            const Floats message = w * load<Floats>(row + i * LANES);
            best[i] = (LARGEST ? message > best[i] : message < best[i]) ? message : best[i];
            zero[i] += 0.f * message;
        }
    }
    Floats sums = {};
    for (int i = 0; i < C / LANES; ++i) store(y + i * LANES, best[i]), sums += zero[i];
    return sum(sums) == 0.f;
}

// C: the width where it is a usual one and heads share no weights, so that loops over it are none; else 0.
template <class I, int C, bool LARGEST>
void extremum_of(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows,
                 int64_t heads, int64_t channels, int threads) {
    const int64_t width = C ? C : heads * channels, edges = rows ? int64_t(indptr[rows]) : 0;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t, int64_t begin, int64_t end, float* y) {
            if constexpr (C > 0)
                if (begin < end && extreme_of_numbers<LARGEST, C>(y, indices, weight, x, begin, end, edges)) return;
            std::fill_n(y, width, begin == end ? 0.f : LARGEST ? NONE : -NONE);
            for (int64_t e = begin; e < end; ++e) {
                ahead(x, indices, e, edges, width);
                const float* row = x + int64_t(indices[e]) * width;
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight ? weight[e * heads + h] : 1.f;
                    extreme<LARGEST>(y + h * channels, w, row + h * channels, channels);
                }
            }
        },
        [=](float* y, const float* other) { extreme<LARGEST>(y, 1.f, other, width); },
        [=](int64_t row, float* y) { std::copy_n(y, width, out + row * width); }, no_sweep);
}

template <class I, int C>
void extremum_by(int largest, const I* indptr, const I* indices, const float* weight, const float* x, float* out,
                 int64_t rows, int64_t heads, int64_t channels, int threads) {
    if (largest) extremum_of<I, C, true>(indptr, indices, weight, x, out, rows, heads, channels, threads);
    else extremum_of<I, C, false>(indptr, indices, weight, x, out, rows, heads, channels, threads);
}

template <class I>
void extremum(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows,
              int64_t heads, int64_t channels, int largest, int threads) {
#define WIDTH(C) extremum_by<I, C>(largest, indptr, indices, weight, x, out, rows, heads, channels, threads)
    switch (heads == 1 ? channels : 0) {
        case 16: return WIDTH(16);
        case 32: return WIDTH(32);
        case 64: return WIDTH(64);
        case 128: return WIDTH(128);
        default: return WIDTH(0);
    }
#undef WIDTH
}

// share [T, D]: the gradient of out over the number of messages that tie. With weights also their gradient [E, H].
template <class I>
void extremum_rows(const I* indptr, const I* indices, const float* weight, const float* x, const float* out,
                   const float* grad, float* share, float* grad_weight, int64_t rows, int64_t heads, int64_t channels,
                   int threads) {
    const int64_t width = heads * channels, edges = rows ? int64_t(indptr[rows]) : 0;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t t, int64_t begin, int64_t end, float* ties) {
            std::fill_n(ties, width, 0.f);
            for (int64_t e = begin; e < end; ++e) {
                ahead(x, indices, e, edges, width);
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
    const int64_t width = heads * channels, edges = columns ? int64_t(t_indptr[columns]) : 0;
    each_row(
        t_indptr, columns, threads, width,
        [=](int64_t s, int64_t begin, int64_t end, float* total) {
            std::fill_n(total, width, 0.f);
            for (int64_t i = begin; i < end; ++i) {
                ahead(out, t_indices, i, edges, width);
                ahead(share, t_indices, i, edges, width);
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
inline Floats safe(Floats top) { return top == NONE ? Floats{} : top; }

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
#ifdef __AVX512F__
    return (Floats)_mm512_mask_loadu_ps((__m512)all(rest), __mmask16((1u << count) - 1), p);
#else
    float v[LANES];
    for (int l = 0; l < LANES; ++l) v[l] = l < count ? p[l] : rest;
    return load<Floats>(v);
#endif
}
inline void store_some(float* p, Floats v, int count) {
    if (count == LANES) return store(p, v);
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
#else
    for (int l = 0; l < LANES; ++l)
        if (l < count) p[l] = v[l];
#endif
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
                if ((end - begin) * H <= LANES) {  // a short row: its exponentials wait in `out` to be scaled
                    const int count = int((end - begin) * H);
                    const Floats given = some(score + begin * H, count, NONE), most = folded(given, H, larger);
                    const Floats each = exponential(given - safe(most)), sums = folded(each, H, plus);
                    store_some(out + begin * H, each, count);
                    for (int h = 0; h < H; ++h) top[h] = most[h], total[h] = sums[h];
                    return;
                }
                Floats most = all(NONE), sums = {};
                by_lanes(begin * H, end * H,
                         [&](int64_t at, int n) { most = larger(some(score + at, n, NONE), most); });
                most = folded(most, H, larger);
                const Floats shift = safe(most);
                by_lanes(begin * H, end * H,
                         [&](int64_t at, int n) { sums += exponential(some(score + at, n, NONE) - shift); });
                sums = folded(sums, H, plus);
                for (int h = 0; h < H; ++h) top[h] = most[h], total[h] = sums[h];
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
                if ((end - begin) * H <= LANES) {
                    const int count = int((end - begin) * H);
                    return store_some(out + begin * H, some(out + begin * H, count, 0.f) * times, count);
                }
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
                sums = folded(sums, H, plus);
                for (int h = 0; h < H; ++h) mean[h] = sums[h];
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

// The scores of a block lie edge by edge, an edge's heads padded to P: 1, 2, 4, 8 or a multiple of 16. So the block is
// vectors of sixteen, and those that lie max(P, 16) numbers apart have the same heads in the same lanes.
struct Edge {
    int64_t target, source, number;  // number: in row order
};

// H: the number of heads where it divides 16 and each has its own keys, else 0: loops over it are none.
template <int H> struct Shape {
    int64_t all_heads, all_group, all_pad;

    explicit Shape(const Attention& a) : all_heads(a.heads), all_group(a.heads / a.key_heads), all_pad(1) {
        while (all_pad < a.heads && all_pad < LANES) all_pad *= 2;
        if (all_pad < a.heads) all_pad = (a.heads + LANES - 1) / LANES * LANES;
    }
    int64_t heads() const { return H ? H : all_heads; }
    int64_t key(int64_t head) const { return H ? head : head / all_group; }
    int64_t pad() const { return H ? H : all_pad; }
    int64_t lanes() const { return std::max<int64_t>(pad(), LANES); }
    int64_t numbers(int64_t edges) const { return (edges * pad() + LANES - 1) / LANES * LANES; }
};

// s of a block's edges, -inf in what is padding.
template <int H> inline void score_block(const Attention& given, const Edge* edges, int64_t count, float* scores) {
    const Attention a = given;  // a copy of its own: stores to scores cannot change it
    const Shape<H> shape(a);
    const int64_t heads = shape.heads(), keys = H ? H : a.key_heads, numbers = shape.numbers(count);
    for (int64_t i = 0; i < count; ++i) {
        const auto [t, s, e] = edges[i];
        float* own = scores + i * shape.pad();
        if (!a.q) {
            for (int64_t h = 0; h < heads; ++h) own[h] = 0;
        } else if (a.additive) {
            const float *q = a.q + t * heads, *k = a.k + s * keys;
            for (int64_t h = 0; h < heads; ++h) own[h] = q[h] + k[shape.key(h)];
        } else {
            const float *q = a.q + t * heads * a.dim, *k = a.k + s * keys * a.dim;
            for (int64_t h = 0; h < heads; ++h) own[h] = a.scale * dot(q + h * a.dim, k + shape.key(h) * a.dim, a.dim);
        }
        for (int64_t h = heads; h < shape.pad(); ++h) own[h] = NONE;
    }
    std::fill(scores + count * shape.pad(), scores + numbers, NONE);
    if (a.q && a.additive)
        for (int64_t at = 0; at < numbers; at += LANES) {
            const Floats reach = load<Floats>(scores + at);
            store(scores + at, a.scale * (reach > 0 ? reach : a.slope * reach));
        }
    if (!a.bias) return;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t h = 0; h < heads; h += a.columns)
            for (int64_t j = 0; j < a.columns; ++j)
                scores[i * shape.pad() + h + j] += a.bias[edges[i].number * a.columns + j];
}

inline float kappa(const Attention& a, int64_t edge, int64_t head) {
    return bits(a.seed, uint64_t(edge * a.heads + head)) >= a.threshold ? a.kept : 0.f;
}

// y [H, C] grows by w_h x_h over the rows x [H, C] of a block's edges. C: the channels where they are usual, else 0.
template <int H, int C>
void weigh_of(float* y, const float* w, const float* const* rows, int64_t count, int64_t channels) {
    const int64_t n = C ? C : channels;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t h = 0; h < H; ++h) add(y + h * n, w[i * H + h], rows[i] + h * n, n);
}

// products [edge, H]: <x_h, y_h> of the rows x [H, C] of a block's edges with y.
template <int H, int C>
void dots_of(float* products, const float* y, const float* const* rows, int64_t count, int64_t channels) {
    const int64_t n = C ? C : channels;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t h = 0; h < H; ++h) products[i * H + h] = dot(rows[i] + h * n, y + h * n, n);
}

#define BY_CHANNELS(name, ...)                            \
    switch (channels) {                                   \
        case 8: return name<H, 8>(__VA_ARGS__);           \
        case 16: return name<H, 16>(__VA_ARGS__);         \
        default: return name<H, 0>(__VA_ARGS__);          \
    }

template <int H> void weigh(float* y, const float* w, const float* const* rows, int64_t count, int64_t channels) {
    BY_CHANNELS(weigh_of, y, w, rows, count, channels)
}
template <int H> void dots(float* products, const float* y, const float* const* rows, int64_t count, int64_t channels) {
    BY_CHANNELS(dots_of, products, y, rows, count, channels)
}

template <class I, int H>
void attend_of(const I* indptr, const I* indices, const Attention a, float* out, float* lse, int64_t rows) {
    const Shape<H> shape(a);
    const int64_t heads = shape.heads(), channels = a.channels, width = heads * channels, lanes = shape.lanes();
    const int64_t keys = a.k ? a.key_heads * a.dim : 0, values = a.key_heads * channels;
    const int64_t edges = rows ? int64_t(indptr[rows]) : 0;
    each_row(
        indptr, rows, a.threads, 2 * lanes + width + BLOCK * shape.pad() + LANES,
        [=](int64_t t, int64_t begin, int64_t end, float* top) {  // an online softmax, a block of edges at a time
            const int64_t heads = shape.heads(), lanes = shape.lanes();
            float *total = top + lanes, *y = total + lanes, *scores = y + width;
            std::fill_n(top, lanes, NONE), std::fill_n(total, lanes, 0.f), std::fill_n(y, width, 0.f);
            Edge block[BLOCK];
            const float* v[BLOCK];
            for (int64_t at = begin; at < end; at += BLOCK) {
                const int64_t count = std::min(BLOCK, end - at), numbers = shape.numbers(count);
                for (int64_t i = 0; i < count; ++i) {
                    block[i] = {t, int64_t(indices[at + i]), at + i};
                    v[i] = a.v + block[i].source * values;
                    if (keys) ahead(a.k, indices, at + i, edges, keys);
                    ahead(a.v, indices, at + i, edges, values);
                }
                score_block<H>(a, block, count, scores);
                for (int64_t lane = 0; lane < lanes; lane += LANES) {
                    const Floats before = load<Floats>(top + lane);
                    Floats most = all(NONE), sums = {};
                    for (int64_t n = lane; n < numbers; n += lanes) most = larger(load<Floats>(scores + n), most);
                    most = larger(folded(most, shape.pad(), larger), before);
                    for (int64_t n = lane; n < numbers; n += lanes) {
                        const Floats each = exponential(load<Floats>(scores + n) - safe(most));
                        store(scores + n, each), sums += each;
                    }
                    store(top + lane, most);
                    if (at > begin) {
                        const Floats rescale = exponential(before - safe(most));
                        sums += load<Floats>(total + lane) * rescale;
                        for (int64_t h = lane; h < std::min(heads, lane + LANES); ++h)
                            for (int64_t c = 0; c < channels; ++c) y[h * channels + c] *= rescale[h - lane];
                    }
                    store(total + lane, sums);
                }
                if (a.threshold)
                    for (int64_t i = 0; i < count; ++i)
                        for (int64_t h = 0; h < heads; ++h) scores[i * shape.pad() + h] *= kappa(a, at + i, h);
                if constexpr (H > 0) weigh<H>(y, scores, v, count, channels);
                else
                    for (int64_t i = 0; i < count; ++i)
                        for (int64_t h = 0; h < heads; ++h)
                            add(y + h * channels, scores[i * shape.pad() + h], v[i] + shape.key(h) * channels,
                                channels);
            }
        },
        [=](float* state, const float* other) {
            for (int64_t l = 0; l < lanes; ++l) {
                float own, his, *y = state + 2 * lanes + l * channels;
                join_softmax(state[l], state[lanes + l], other[l], other[lanes + l], own, his);
                const float* z = other + 2 * lanes + l * channels;
                for (int64_t c = 0; l < heads && c < channels; ++c) y[c] = y[c] * own + z[c] * his;
            }
        },
        [=](int64_t t, float* top) {
            const int64_t heads = shape.heads(), lanes = shape.lanes();
            const float* y = top + 2 * lanes;
            float* total = top + lanes;
            for (int64_t lane = 0; lane < lanes; lane += LANES)
                store(total + lane, folded(load<Floats>(total + lane), shape.pad(), plus));
            for (int64_t h = 0; h < heads; ++h) {
                const float inverse = total[h] == 0.f ? 0.f : 1.f / total[h];
                lse[t * heads + h] = safe(top[h]) + std::log(total[h]);
                for (int64_t c = 0; c < channels; ++c) out[t * width + h * channels + c] = y[h * channels + c] * inverse;
            }
        },
        no_sweep);
}

// Gradients of k and v, a column of edges at a time, and those of the scores, flow [E, H] in the transpose's order.
template <class I, int H>
void attend_columns_of(const I* t_indptr, const I* t_indices, const I* perm, const Attention a, const float* lse,
                       const float* delta, const float* grad, float* flow, float* grad_k, float* grad_v,
                       int64_t columns) {
    const Shape<H> shape(a);
    const int64_t heads = shape.heads(), channels = a.channels, width = heads * channels, pad = shape.pad();
    const int64_t keys = a.k ? a.key_heads * a.dim : 0, values = a.key_heads * channels;
    const int64_t edges = columns ? int64_t(t_indptr[columns]) : 0, size = BLOCK * pad + LANES;
    each_row(
        t_indptr, columns, a.threads, keys + values + 3 * size,
        [=](int64_t s, int64_t begin, int64_t end, float* dk) {
            const int64_t heads = shape.heads(), pad = shape.pad();
            float *dv = dk + keys, *alpha = dv + values, *other = alpha + size, *share = other + size;
            std::fill_n(dk, keys + values, 0.f);
            Edge block[BLOCK];
            const float *out[BLOCK], *v = a.v + s * values;
            for (int64_t at = begin; at < end; at += BLOCK) {
                const int64_t count = std::min(BLOCK, end - at), numbers = shape.numbers(count);
                std::fill(other + count * pad, other + numbers, 0.f);
                for (int64_t i = 0; i < count; ++i) {
                    block[i] = {int64_t(t_indices[at + i]), s, int64_t(perm[at + i])};
                    out[i] = grad + block[i].target * width;
                    if (a.q) ahead(a.q, t_indices, at + i, edges, heads * a.dim);
                    ahead(lse, t_indices, at + i, edges, heads);
                    ahead(delta, t_indices, at + i, edges, heads);
                    ahead(grad, t_indices, at + i, edges, width);
                    const float* his = lse + block[i].target * heads;
                    for (int64_t h = 0; h < heads; ++h) other[i * pad + h] = safe(his[h]);
                    for (int64_t h = heads; h < pad; ++h) other[i * pad + h] = 0.f;
                }
                score_block<H>(a, block, count, alpha);
                for (int64_t n = 0; n < numbers; n += LANES)
                    store(alpha + n, exponential(load<Floats>(alpha + n) - load<Floats>(other + n)));
                std::copy_n(alpha, numbers, share);
                if (a.threshold)
                    for (int64_t i = 0; i < count; ++i)
                        for (int64_t h = 0; h < heads; ++h) share[i * pad + h] *= kappa(a, block[i].number, h);
                if constexpr (H > 0) {
                    weigh<H>(dv, share, out, count, channels);
                    dots<H>(other, v, out, count, channels);
                } else
                    for (int64_t i = 0; i < count; ++i)
                        for (int64_t h = 0; h < heads; ++h) {
                            const int64_t g = shape.key(h) * channels;
                            add(dv + g, share[i * pad + h], out[i] + h * channels, channels);
                            other[i * pad + h] = dot(out[i] + h * channels, v + g, channels);
                        }
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t t = block[i].target;
                    const float *his = delta + t * heads, *q = a.q + t * heads * a.dim, *k = a.k + s * keys;
                    float* ds = flow + (at + i) * heads;
                    for (int64_t h = 0; h < heads; ++h)
                        ds[h] = share[i * pad + h] * other[i * pad + h] - alpha[i * pad + h] * his[h];
                    if (!a.q) continue;
                    if (a.additive) {
                        for (int64_t h = 0; h < heads; ++h)
                            dk[shape.key(h)] += a.scale * (q[h] + k[shape.key(h)] > 0 ? ds[h] : ds[h] * a.slope);
                    } else {
                        for (int64_t h = 0; h < heads; ++h)
                            add(dk + shape.key(h) * a.dim, a.scale * ds[h], q + h * a.dim, a.dim);
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
template <class I, int H>
void attend_rows_of(const I* indptr, const I* indices, const I* inv_perm, const Attention a, const float* flow,
                    float* grad_q, float* grad_bias, int64_t rows) {
    const Shape<H> shape(a);
    const int64_t heads = shape.heads(), width = a.q ? heads * a.dim : 0, keys = a.k ? a.key_heads * a.dim : 0;
    const int64_t edges = rows ? int64_t(indptr[rows]) : 0;
    each_row(
        indptr, rows, a.threads, width,
        [=](int64_t t, int64_t begin, int64_t end, float* dq) {
            const int64_t heads = shape.heads();
            std::fill_n(dq, width, 0.f);
            const float* q = a.q + t * width;
            for (int64_t e = begin; e < end; ++e) {
                ahead(flow, inv_perm, e, edges, heads);
                if (keys) ahead(a.k, indices, e, edges, keys);
                const float *ds = flow + int64_t(inv_perm[e]) * heads, *k = a.k + int64_t(indices[e]) * keys;
                if (keys && a.additive) {
                    for (int64_t h = 0; h < heads; ++h)
                        dq[h] += a.scale * (q[h] + k[shape.key(h)] > 0 ? ds[h] : ds[h] * a.slope);
                } else if (keys) {
                    for (int64_t h = 0; h < heads; ++h)
                        add(dq + h * a.dim, a.scale * ds[h], k + shape.key(h) * a.dim, a.dim);
                }
                if (!grad_bias) continue;
                std::copy_n(ds, a.columns, grad_bias + e * a.columns);
                for (int64_t h = a.columns; h < heads; h += a.columns) add(grad_bias + e * a.columns, 1.f, ds + h, a.columns);
            }
        },
        [=](float* dq, const float* other) { add(dq, 1.f, other, width); },
        [=](int64_t t, float* dq) { std::copy_n(dq, width, grad_q + t * width); }, no_sweep);
}

template <class I>
void attend(const I* indptr, const I* indices, const Attention a, float* out, float* lse, int64_t rows) {
    const int64_t heads = a.heads == a.key_heads ? a.heads : 0;
    BY_HEADS(attend_of, indptr, indices, a, out, lse, rows)
}

template <class I>
void attend_columns(const I* t_indptr, const I* t_indices, const I* perm, const Attention a, const float* lse,
                    const float* delta, const float* grad, float* flow, float* grad_k, float* grad_v, int64_t columns) {
    const int64_t heads = a.heads == a.key_heads ? a.heads : 0;
    BY_HEADS(attend_columns_of, t_indptr, t_indices, perm, a, lse, delta, grad, flow, grad_k, grad_v, columns)
}

template <class I>
void attend_rows(const I* indptr, const I* indices, const I* inv_perm, const Attention a, const float* flow,
                 float* grad_q, float* grad_bias, int64_t rows) {
    const int64_t heads = a.heads == a.key_heads ? a.heads : 0;
    BY_HEADS(attend_rows_of, indptr, indices, inv_perm, a, flow, grad_q, grad_bias, rows)
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

// Memory that nobody has written to yet is asked for in huge pages, where the system lends them on request.
void hgraph_in_huge_pages(float* begin, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t(begin) + page - 1) / page * page, last = (uintptr_t(begin) + bytes) / page * page;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // advice: where it fails, pages are small
#endif
}

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
