// Weighted sums over rows, and inner products over edges.
#pragma once

#include "native_lanes.h"
#include "native_rows.h"

namespace {

// What a sum reads: rows of `width` features, of which one call adds up `features` from the first of x on.
template <class I> struct Summed {
    const I *indptr, *indices;
    const float *weight, *x;
    int64_t edges, features, width;
};

// y = the weighted sum over some edges, in registers.
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
void sum_rows(Vectors<V, N>, const Summed<I>& a, int64_t first, int64_t last, float* out, float* piece) {
    if (piece) return sum_edges<V, N>(a, first, last, piece);
    for (int64_t row = first; row < last; ++row) {
        const int64_t begin = a.indptr[row], end = a.indptr[row + 1];
        if (end - begin <= RUN) sum_edges<V, N>(a, begin, end, out + row * a.width);
    }
}

template <class I>
void sum(const I* indptr, const I* indices, const float* weight, const float* x, float* out, int64_t rows, int64_t width,
         int threads) {
    const auto spans = [=](int64_t first, int64_t last, float* piece) {
        by_spans(width, [=](auto vectors, int64_t at, int64_t features) {
            const Summed<I> a{indptr, indices, weight, x + at, rows ? int64_t(indptr[rows]) : 0, features, width};
            sum_rows(vectors, a, first, last, out + at, piece ? piece + at : nullptr);
        });
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

}  // namespace
