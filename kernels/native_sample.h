// Random numbers by counter, and neighbours drawn by them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

inline uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}
inline uint32_t bits(uint64_t seed, uint64_t counter) {
    return mix(mix(uint32_t(counter) ^ uint32_t(seed)) ^ uint32_t(counter >> 32) ^ uint32_t(seed >> 32));
}

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
