// Plain row loops, the yardstick of the benchmarks: one thread, vectorised over features, nothing clever but prefetch.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

template <int F, bool MAX>
void reduce_rows(int64_t rows, const int32_t *ptr, const int32_t *col, const float *w, const float *x, float *y) {
  for (int64_t r = 0; r < rows; ++r) {
    float acc[F];
    std::fill(acc, acc + F, MAX && ptr[r] < ptr[r + 1] ? -INFINITY : 0.0f);
    for (int32_t e = ptr[r]; e < ptr[r + 1]; ++e) {
      const char *ahead = reinterpret_cast<const char *>(x + int64_t(col[std::min(e + 8, ptr[rows] - 1)]) * F);
      for (int at = 0; at < F * 4; at += 64) __builtin_prefetch(ahead + at);
      const float *row = x + int64_t(col[e]) * F;
      const float by = w ? w[e] : 1.0f;
      for (int f = 0; f < F; ++f) acc[f] = MAX ? std::max(acc[f], by * row[f]) : acc[f] + by * row[f];
    }
    std::memcpy(y + r * F, acc, sizeof acc);
  }
}

template <bool MAX>
int reduce(int64_t rows, int64_t width, const int32_t *ptr, const int32_t *col, const float *w, const float *x,
           float *y) {
  switch (width) {
    case 7: reduce_rows<7, MAX>(rows, ptr, col, w, x, y); return 0;
    case 16: reduce_rows<16, MAX>(rows, ptr, col, w, x, y); return 0;
    case 40: reduce_rows<40, MAX>(rows, ptr, col, w, x, y); return 0;
    case 64: reduce_rows<64, MAX>(rows, ptr, col, w, x, y); return 0;
    case 128: reduce_rows<128, MAX>(rows, ptr, col, w, x, y); return 0;
    default: return 1;
  }
}

template <int H>
void softmax_rows(int64_t rows, const int32_t *ptr, const float *s, float *out) {
  for (int64_t r = 0; r < rows; ++r) {
    float top[H], sum[H];
    std::fill(top, top + H, -INFINITY);
    std::fill(sum, sum + H, 0.0f);
    for (int64_t e = ptr[r]; e < ptr[r + 1]; ++e)
      for (int h = 0; h < H; ++h) top[h] = std::max(top[h], s[e * H + h]);
    for (int64_t e = ptr[r]; e < ptr[r + 1]; ++e)
      for (int h = 0; h < H; ++h) sum[h] += out[e * H + h] = std::exp(s[e * H + h] - top[h]);
    for (int h = 0; h < H; ++h) sum[h] = 1.0f / sum[h];
    for (int64_t e = ptr[r]; e < ptr[r + 1]; ++e)
      for (int h = 0; h < H; ++h) out[e * H + h] *= sum[h];
  }
}

}  // namespace

extern "C" {

int row_sum(int64_t rows, int64_t width, const int32_t *ptr, const int32_t *col, const float *w, const float *x,
            float *y) {
  return reduce<false>(rows, width, ptr, col, w, x, y);
}

int row_max(int64_t rows, int64_t width, const int32_t *ptr, const int32_t *col, const float *w, const float *x,
            float *y) {
  return reduce<true>(rows, width, ptr, col, w, x, y);
}

int row_softmax(int64_t rows, int64_t heads, const int32_t *ptr, const float *s, float *out) {
  switch (heads) {
    case 1: softmax_rows<1>(rows, ptr, s, out); return 0;
    case 8: softmax_rows<8>(rows, ptr, s, out); return 0;
    default: return 1;
  }
}
}
