// The two passes over memory that Mechanic adds to its base optimizer, for float32 tensors on the processor.
// A plain C interface that Python loads with ctypes. Without this library torch does the same, more slowly.

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

// One binary for all machines: the loader takes the widest registers that the processor has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define WIDE
#endif

namespace {

constexpr int64_t kBlock = 4096;         // elements summed in single precision until the sum is added to a double
constexpr int64_t kPerThread = 1 << 20;  // elements that are worth a thread

WIDE void products(const float* d, const float* g, int64_t n, double* out) {
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = std::min(n, start + kBlock);
    float along = 0, square = 0;
    for (int64_t i = start; i < end; ++i) {
      along += d[i] * g[i];
      square += g[i] * g[i];
    }
    out[0] += along;
    out[1] += square;
  }
}

WIDE void place(float* d, const float* reference, float* x, int64_t n, float scale, float decay, double* out) {
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = std::min(n, start + kBlock);
    float along = 0, square = 0;
    if (decay != 0) {
      for (int64_t i = start; i < end; ++i) d[i] -= decay * x[i];
    }
    for (int64_t i = start; i < end; ++i) {
      const float value = reference[i] + scale * d[i];
      x[i] = value;
      along += d[i] * value;
      square += value * value;
    }
    out[0] += along;
    out[1] += square;
  }
}

// Calls work(tensor, start, length, sums) on threads that share the elements evenly; adds up what they found.
template <typename Work>
void spread(int count, const int64_t* sizes, int threads, double* out, Work work) {
  int64_t total = 0;
  for (int t = 0; t < count; ++t) total += sizes[t];
  threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, total / kPerThread)));
  const int64_t share = (total + threads - 1) / threads;
  std::vector<double> found(2 * threads, 0.0);
  auto run = [&](int thread) {
    const int64_t low = share * thread, high = std::min(total, low + share);
    double sums[2] = {0.0, 0.0};
    int64_t offset = 0;
    for (int t = 0; t < count; ++t) {
      const int64_t start = std::max(low, offset), end = std::min(high, offset + sizes[t]);
      if (start < end) work(t, start - offset, end - start, sums);
      offset += sizes[t];
    }
    found[2 * thread] = sums[0];
    found[2 * thread + 1] = sums[1];
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (auto& other : others) other.join();
  out[0] = out[1] = 0.0;
  for (int thread = 0; thread < threads; ++thread) {
    out[0] += found[2 * thread];
    out[1] += found[2 * thread + 1];
  }
}

}  // namespace

extern "C" {

// out = <D, g>, |g|^2 over all tensors.
void mechanic_products(int count, float* const* directions, float* const* gradients, const int64_t* sizes, int threads, double* out) {
  spread(count, sizes, threads, out, [&](int t, int64_t start, int64_t n, double* sums) { products(directions[t] + start, gradients[t] + start, n, sums); });
}

// D -= decay x, x = x_ref + scale D, with a decay for every tensor; out = <D, x>, |x|^2 over all tensors.
void mechanic_place(int count, float* const* directions, float* const* references, float* const* values, const int64_t* sizes, const double* decays,
                    double scale, int threads, double* out) {
  spread(count, sizes, threads, out, [&](int t, int64_t start, int64_t n, double* sums) {
    place(directions[t] + start, references[t] + start, values[t] + start, n, static_cast<float>(scale), static_cast<float>(decays[t]), sums);
  });
}
}
