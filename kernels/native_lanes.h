// Sixteen numbers at once: vectors, exponentials, inner products, and rows fetched ahead of their use.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

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

inline float sum(float v) { return v; }
inline float sum(Quarter v) { return (v[0] + v[2]) + (v[1] + v[3]); }
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

// N vectors of type V, for loops that keep a row's numbers in registers. The last one ends where the features do: where
// they do not fill it, it overlaps the one before.
template <class V, int N> struct Vectors {};

// body(Vectors, first feature, features) for spans of at most 128 features.
template <class Body> void by_spans(int64_t width, Body body) {
    for (int64_t at = 0; at < width; at += 8 * LANES) {
        const int64_t n = std::min(width - at, int64_t(8 * LANES));
        if (n < 4) {
            if (n == 1) body(Vectors<float, 1>{}, at, n);
            else if (n == 2) body(Vectors<float, 2>{}, at, n);
            else body(Vectors<float, 3>{}, at, n);
        } else if (n < LANES) {
            if (n < 5) body(Vectors<Quarter, 1>{}, at, n);
            else if (n < 8) body(Vectors<Quarter, 2>{}, at, n);
            else if (n == 8) body(Vectors<Half, 1>{}, at, n);
            else body(Vectors<Half, 2>{}, at, n);
        } else {
            switch ((n - 1) / LANES) {
                case 0: body(Vectors<Floats, 1>{}, at, n); break;
                case 1: body(Vectors<Floats, 2>{}, at, n); break;
                case 2: body(Vectors<Floats, 3>{}, at, n); break;
                case 3: body(Vectors<Floats, 4>{}, at, n); break;
                case 4: body(Vectors<Floats, 5>{}, at, n); break;
                case 5: body(Vectors<Floats, 6>{}, at, n); break;
                case 6: body(Vectors<Floats, 7>{}, at, n); break;
                default: body(Vectors<Floats, 8>{}, at, n);
            }
        }
    }
}

}  // namespace
