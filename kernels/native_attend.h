// Attention over each row's edges, and its gradients.
#pragma once

#include "native_sample.h"
#include "native_softmax.h"

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

}  // namespace
