// The kernels of the `native` backend: what plain torch cannot do well on a CPU. Headers have one verb each.
//
// Plain C interface, no headers of torch: pointers to contiguous float32 data and to int32 or int64 indices (`wide`).
// A structure is rows of edges (indptr, indices) or columns of them (t_indptr, t_indices, with perm to the row order).
// Every sum has one order, which hangs on the structure alone: the same bits for any number of threads, no atomics.

#include <cstdint>

#include "native_attend.h"
#include "native_extremum.h"
#include "native_pages.h"
#include "native_sample.h"
#include "native_softmax.h"
#include "native_sum.h"

// One name for both index types.
#define HGRAPH(name, indices, ...)                         \
    if (wide) name<int64_t>(indices(int64_t) __VA_ARGS__); \
    else name<int32_t>(indices(int32_t) __VA_ARGS__);
#define AS(I, p) static_cast<const I*>(p)

extern "C" {

void hgraph_in_huge_pages(float* begin, int64_t bytes, int threads, int64_t* touched) {
    in_huge_pages(begin, bytes, threads, touched);
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

// `weight` in the order of the columns.
void hgraph_extremum_columns(int wide, const void* t_indptr, const void* t_indices, const float* weight, const float* x,
                             const float* out, const float* share, float* grad_x, int64_t columns, int64_t heads,
                             int64_t channels, int threads) {
#define INDICES(I) AS(I, t_indptr), AS(I, t_indices),
    HGRAPH(extremum_columns, INDICES, weight, x, out, share, grad_x, columns, heads, channels, threads)
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

void hgraph_attend_columns(int wide, const void* t_indptr, const void* t_indices, const void* perm, const Attention* a,
                           const float* lse, const float* delta, const float* grad, float* flow, float* grad_k,
                           float* grad_v, int64_t columns) {
#define INDICES(I) AS(I, t_indptr), AS(I, t_indices), AS(I, perm),
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
