// Rows over threads: parts of as many edges, long rows in runs that are put together in one order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

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

}  // namespace
