// Memory in huge pages, for as long as these come fast.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

#if defined(MADV_HUGEPAGE) && defined(MADV_NOHUGEPAGE)
constexpr uintptr_t HUGE = 2 << 20;
// A huge page takes 0.2 ms to be zeroed, as many bytes in small pages take 0.5. It takes several ms where the system
// must move others out of its place, or where the host of a virtual machine has taken its memory back.
constexpr int64_t SLOW_NS = 1000000, FEW = 2;

inline int64_t thread_ns() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
}
#endif

// Asks for huge pages under memory that nobody has written to yet, and touches them; at the second that is slow it takes
// the advice back for those to come. Says how many were fast and slow. Where the system lends none, pages are small.
inline void in_huge_pages(float* begin, int64_t bytes, int threads, int64_t* touched) {
    touched[0] = touched[1] = 0;
#if defined(MADV_HUGEPAGE) && defined(MADV_NOHUGEPAGE)
    const uintptr_t page = sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t(begin) + page - 1) / page * page, last = (uintptr_t(begin) + bytes) / page * page;
    const uintptr_t inner = (first + HUGE - 1) / HUGE * HUGE;
    if (last <= inner || madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE)) return;
    const int64_t count = (last - inner) / HUGE;
    std::atomic<int64_t> fast{0}, slow{0};
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; ++i) {
        if (slow.load(std::memory_order_relaxed) >= FEW) {
            madvise(reinterpret_cast<void*>(inner + i * HUGE), HUGE, MADV_NOHUGEPAGE);
            continue;
        }
        const int64_t start = thread_ns();
        *reinterpret_cast<volatile char*>(inner + i * HUGE) = 0;
        ++(thread_ns() - start > SLOW_NS ? slow : fast);
    }
    touched[0] = fast, touched[1] = slow;
#endif
}

}  // namespace
