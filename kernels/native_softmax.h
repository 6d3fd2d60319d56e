// Softmax over each row's edges.
#pragma once

#include "native_lanes.h"
#include "native_rows.h"

namespace {

inline float safe(float top) { return top == NONE ? 0.f : top; }  // a row without edges: a shift that stays finite
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

}  // namespace
