// The largest and smallest message of each row, and their gradients.
#pragma once

#include "native_lanes.h"
#include "native_rows.h"

namespace {

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

// What the gradients of extrema read: where w x == top, an edge's message is its target's extremum.
template <class I> struct Tied {
    const I *indptr, *indices;
    const float *weight, *x, *top;
    int64_t edges, features, width;
};

// ties = how many of a row's edges reach its extremum.
template <class V, int N, class I>
void count_ties(Vectors<V, N>, const Tied<I>& a, int64_t row, int64_t begin, int64_t end, float* ties) {
    constexpr int64_t SIZE = sizeof(V) / sizeof(float);
    const int64_t last = a.features - SIZE;
    const float* own = a.top + row * a.width;
    V top[N], total[N] = {};
    for (int i = 0; i < N - 1; ++i) top[i] = load<V>(own + i * SIZE);
    top[N - 1] = load<V>(own + last);
    for (int64_t e = begin; e < end; ++e) {
        ahead(a.x, a.indices, e, a.edges, a.width, N * SIZE);
        const float *x = a.x + int64_t(a.indices[e]) * a.width, w = a.weight ? a.weight[e] : 1.f;
        for (int i = 0; i < N - 1; ++i) total[i] = w * load<V>(x + i * SIZE) == top[i] ? total[i] + 1.f : total[i];
        total[N - 1] = w * load<V>(x + last) == top[N - 1] ? total[N - 1] + 1.f : total[N - 1];
    }
    for (int i = 0; i < N - 1; ++i) store(ties + i * SIZE, total[i]);
    store(ties + last, total[N - 1]);
}

// The gradients of a row's weights grow: <share, x> over the features in which the edge reaches the extremum.
template <class V, int N, class I>
void flow_to_weights(Vectors<V, N>, const Tied<I>& a, const float* share, int64_t row, int64_t begin, int64_t end,
                     float* grad_weight) {
    constexpr int64_t SIZE = sizeof(V) / sizeof(float);
    const int64_t last = a.features - SIZE;
    const float *own = a.top + row * a.width, *given = share + row * a.width;
    V top[N], flow[N];
    for (int i = 0; i < N - 1; ++i) top[i] = load<V>(own + i * SIZE), flow[i] = load<V>(given + i * SIZE);
    flow[N - 1] = load<V>(given + last);
    float rest[SIZE];  // of the last vector; where it overlaps, NaN, which nothing equals: each feature counts once
    for (int64_t i = 0; i < SIZE; ++i) rest[i] = last + i < (N - 1) * SIZE ? std::nanf("") : own[last + i];
    top[N - 1] = load<V>(rest);
    for (int64_t e = begin; e < end; ++e) {
        const float *x = a.x + int64_t(a.indices[e]) * a.width, w = a.weight ? a.weight[e] : 1.f;
        V total = {};
        for (int i = 0; i < N; ++i) {
            const V each = load<V>(x + (i < N - 1 ? i * SIZE : last));
            total = w * each == top[i] ? total + flow[i] * each : total;
        }
        grad_weight[e] += sum(total);
    }
}

// total = what flows back to a column through its edges that reach their targets' extrema; weights in the columns' order.
template <class V, int N, class I>
void flow_back(Vectors<V, N>, const Tied<I>& a, const float* share, int64_t column, int64_t begin, int64_t end,
               float* total) {
    constexpr int64_t SIZE = sizeof(V) / sizeof(float);
    const int64_t last = a.features - SIZE;
    const float* own = a.x + column * a.width;
    V x[N], sums[N] = {};
    for (int i = 0; i < N - 1; ++i) x[i] = load<V>(own + i * SIZE);
    x[N - 1] = load<V>(own + last);
    for (int64_t e = begin; e < end; ++e) {
        ahead(a.top, a.indices, e, a.edges, a.width, N * SIZE);
        ahead(share, a.indices, e, a.edges, a.width, N * SIZE);
        const int64_t at = int64_t(a.indices[e]) * a.width;
        const float w = a.weight ? a.weight[e] : 1.f;
        for (int i = 0; i < N; ++i) {
            const int64_t j = at + (i < N - 1 ? i * SIZE : last);
            sums[i] = w * x[i] == load<V>(a.top + j) ? sums[i] + w * load<V>(share + j) : sums[i];
        }
    }
    for (int i = 0; i < N - 1; ++i) store(total + i * SIZE, sums[i]);
    store(total + last, sums[N - 1]);
}

// share [T, D]: the gradient of out over the number of messages that tie. If asked for, that of the weights [E, H], too.
template <class I>
void extremum_rows(const I* indptr, const I* indices, const float* weight, const float* x, const float* out,
                   const float* grad, float* share, float* grad_weight, int64_t rows, int64_t heads, int64_t channels,
                   int threads) {
    const int64_t width = heads * channels, edges = rows ? int64_t(indptr[rows]) : 0;
    each_row(
        indptr, rows, threads, width,
        [=](int64_t t, int64_t begin, int64_t end, float* ties) {
            if (heads == 1)
                return by_spans(width, [=](auto vectors, int64_t at, int64_t features) {
                    const Tied<I> a{indptr, indices, weight, x + at, out + at, edges, features, width};
                    count_ties(vectors, a, t, begin, end, ties + at);
                });
            std::fill_n(ties, width, 0.f);
            for (int64_t e = begin; e < end; ++e) {
                ahead(x, indices, e, edges, width);
                const float *row = x + int64_t(indices[e]) * width, *top = out + t * width;
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight[e * heads + h];
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
            if (heads == 1)
                return by_spans(width, [=](auto vectors, int64_t at, int64_t features) {
                    const Tied<I> a{indptr, indices, weight, x + at, out + at, edges, features, width};
                    flow_to_weights(vectors, a, share + at, t, begin, end, grad_weight);
                });
            for (int64_t e = begin; e < end; ++e)
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight[e * heads + h];
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
void extremum_columns(const I* t_indptr, const I* t_indices, const float* weight, const float* x, const float* out,
                      const float* share, float* grad_x, int64_t columns, int64_t heads, int64_t channels,
                      int threads) {
    const int64_t width = heads * channels, edges = columns ? int64_t(t_indptr[columns]) : 0;
    each_row(
        t_indptr, columns, threads, width,
        [=](int64_t s, int64_t begin, int64_t end, float* total) {
            if (heads == 1)
                return by_spans(width, [=](auto vectors, int64_t at, int64_t features) {
                    const Tied<I> a{t_indptr, t_indices, weight, x + at, out + at, edges, features, width};
                    flow_back(vectors, a, share + at, s, begin, end, total + at);
                });
            std::fill_n(total, width, 0.f);
            for (int64_t i = begin; i < end; ++i) {
                ahead(out, t_indices, i, edges, width);
                ahead(share, t_indices, i, edges, width);
                for (int64_t h = 0; h < heads; ++h) {
                    const float w = weight[i * heads + h];
                    const int64_t at = int64_t(t_indices[i]) * width + h * channels;
                    const auto flow = [w](auto y, auto x, auto top, auto g) { return w * x == top ? y + w * g : y; };
                    each(channels, flow, total + h * channels, x + s * width + h * channels, out + at, share + at);
                }
            }
        },
        [=](float* total, const float* other) { add(total, 1.f, other, width); },
        [=](int64_t s, float* total) { std::copy_n(total, width, grad_x + s * width); }, no_sweep);
}

}  // namespace
