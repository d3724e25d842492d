// The passes over memory that the tuners make, for float32 tensors on the processor: two that Mechanic adds to its base optimizer, of which the second makes
// the step of an Adam as well, and a whole step of RelativeMechanic, which is two passes and some arithmetic between them.
// A plain C interface that Python loads with ctypes. Without this library torch does the same, more slowly.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
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
constexpr int64_t kPiece = 64;           // elements between two looks ahead
constexpr int64_t kAhead = 256;          // elements that memory is asked for before they are due
constexpr double kTiny = 1e-100;         // in denominators that are zero only where nothing was ever seen

// Asks for the next elements of many arrays: a processor follows two or three by itself.
template <typename... Arrays>
inline __attribute__((always_inline)) void look_ahead(int64_t i, const Arrays*... arrays) {
  for (int64_t k = i + kAhead; k < i + kAhead + kPiece; k += 16) (__builtin_prefetch(arrays + k), ...);
}

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

// One loop for both: with decay, D is written as well.
template <bool kDecays>
inline __attribute__((always_inline)) void place_block(float* __restrict d, const float* __restrict reference, float* __restrict x, int64_t n,
                                                       float scale, float decay, double* out) {
  float along = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float direction = kDecays ? d[i] - decay * x[i] : d[i];
    const float value = reference[i] + scale * direction;
    if (kDecays) d[i] = direction;
    x[i] = value;
    along += direction * value;
    square += value * value;
  }
  out[0] += along;
  out[1] += square;
}

WIDE void place(float* d, const float* reference, float* x, int64_t n, float scale, float decay, double* out) {
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t length = std::min(n - start, kBlock);
    if (decay != 0) {
      place_block<true>(d + start, reference + start, x + start, length, scale, decay, out);
    } else {
      place_block<false>(d + start, reference + start, x + start, length, scale, decay, out);
    }
  }
}

// The numbers of an Adam: decays of the moments, epsilon, weight decay in the gradient and, times the learning rate, beside it, -1 where a gradient is to
// be climbed; and of a tensor, learning rate and root of the second moment with their corrections.
struct Adam {
  float first_decay, second_decay, epsilon, coupled, decoupled, sign, length, root;
};

// Adam steps D, whose decay means the parameters; the rest as in place.
WIDE void adam_place(const float* __restrict g, float* __restrict first, float* __restrict second, float* __restrict d, const float* __restrict reference,
                     float* __restrict x, int64_t n, Adam a, float scale, double* out) {
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = std::min(n, start + kBlock);
    float along = 0, square = 0;
    for (int64_t piece = start; piece < end; piece += kPiece) {
      const int64_t stop = std::min(end, piece + kPiece);
      look_ahead(piece, g, first, second, d, reference, x);
      for (int64_t i = piece; i < stop; ++i) {
        const float old = x[i];
        const float gradient = a.sign * g[i] + a.coupled * old;
        const float mean = first[i] + (1 - a.first_decay) * (gradient - first[i]);
        const float variance = a.second_decay * second[i] + (1 - a.second_decay) * gradient * gradient;
        const float direction = d[i] - a.decoupled * old - a.length * mean / (a.root * std::sqrt(variance) + a.epsilon);
        const float value = reference[i] + scale * direction;
        first[i] = mean;
        second[i] = variance;
        d[i] = direction;
        x[i] = value;
        along += direction * value;
        square += value * value;
      }
    }
    out[0] += along;
    out[1] += square;
  }
}

// The numbers of RelativeMechanic: weight of the average in the point where gradients are taken, decay of the second moment, epsilon, weight decay.
struct Numbers {
  float momentum, decay, epsilon, weight_decay;
};

// Sums that a step needs before it may change anything: |g|^2, |y|^2, <D, g>, <D, y>, |u|^2, where u is the update that the second moment would give.
WIDE void relative_sums(const float* __restrict g, const float* __restrict y, const float* __restrict d, const float* __restrict second, int64_t n,
                        float correction, Numbers c, double* out) {
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = std::min(n, start + kBlock);
    float gg = 0, yy = 0, dg = 0, dy = 0, uu = 0;
    for (int64_t piece = start; piece < end; piece += kPiece) {
      const int64_t stop = std::min(end, piece + kPiece);
      look_ahead(piece, g, y, d, second);
      for (int64_t i = piece; i < stop; ++i) {
        const float v = c.decay * second[i] + (1 - c.decay) * g[i] * g[i];
        const float u = g[i] / (std::sqrt(v * correction) + c.epsilon) + c.weight_decay * y[i];
        gg += g[i] * g[i];
        yy += y[i] * y[i];
        dg += d[i] * g[i];
        dy += d[i] * y[i];
        uu += u * u;
      }
    }
    out[0] += gg;
    out[1] += yy;
    out[2] += dg;
    out[3] += dy;
    out[4] += uu;
  }
}

// The step: v, D, the average of z = x_ref + scale D, and y in place. length is that of u in D, share that of z in the average.
WIDE void relative_move(const float* __restrict g, float* __restrict y, float* __restrict d, float* __restrict second, float* __restrict average,
                        const float* __restrict reference, int64_t n, float correction, float length, float share, float scale, Numbers c) {
  for (int64_t piece = 0; piece < n; piece += kPiece) {
    const int64_t stop = std::min(n, piece + kPiece);
    look_ahead(piece, g, y, d, second, average, reference);
    for (int64_t i = piece; i < stop; ++i) {
      const float v = c.decay * second[i] + (1 - c.decay) * g[i] * g[i];
      const float u = g[i] / (std::sqrt(v * correction) + c.epsilon) + c.weight_decay * y[i];
      const float direction = d[i] + length * u;
      const float z = reference[i] + scale * direction;
      const float mean = average[i] + share * (z - average[i]);
      second[i] = v;
      d[i] = direction;
      average[i] = mean;
      y[i] = z + c.momentum * (mean - z);
    }
  }
}

// Calls work(tensor, start, length, sums) on threads that share the elements evenly; out[tensor][k] adds up what they put into sums[k].
template <typename Work>
void spread(int count, const int64_t* sizes, int threads, int width, double* out, Work work) {
  int64_t total = 0;
  for (int t = 0; t < count; ++t) total += sizes[t];
  threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, total / kPerThread)));
  const int64_t share = (total + threads - 1) / threads;
  std::vector<double> found(static_cast<size_t>(threads) * count * width, 0.0);
  auto run = [&](int thread) {
    const int64_t low = share * thread, high = std::min(total, low + share);
    double* sums = found.data() + static_cast<size_t>(thread) * count * width;
    int64_t offset = 0;
    for (int t = 0; t < count; ++t) {
      const int64_t start = std::max(low, offset), end = std::min(high, offset + sizes[t]);
      if (start < end) work(t, start - offset, end - start, sums + static_cast<size_t>(t) * width);
      offset += sizes[t];
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (auto& other : others) other.join();
  const size_t values = static_cast<size_t>(count) * width;
  for (size_t k = 0; k < values; ++k) {
    out[k] = 0.0;
    for (int thread = 0; thread < threads; ++thread) out[k] += found[thread * values + k];
  }
}

// The bettors of one tensor: m, V, r, s, each of as many numbers as there are betas.
struct Bettors {
  double *m, *v, *r, *s;
  int count;

  Bettors(double* memory, int count) : m(memory), v(m + count), r(v + count), s(r + count), count(count) {}

  double stake() const { return std::accumulate(s, s + count, 0.0); }

  // Takes in a slope h; without any reward all of them together stake what is given, and never more than 1 is played.
  void bet(double h, const double* betas, double given, bool first) {
    for (int k = 0; k < count; ++k) {
      m[k] = std::max(betas[k] * m[k], std::abs(h));
      v[k] = betas[k] * betas[k] * v[k] + h * h;
      r[k] = std::max(0.0, betas[k] * r[k] - s[k] * h);
      s[k] = first ? given / count : (given * m[k] / count + r[k]) / std::max(std::sqrt(v[k]), kTiny);
    }
    const double beyond = std::max(1.0, stake());
    for (int k = 0; k < count; ++k) s[k] /= beyond;
  }
};

}  // namespace

// Of all functions: columns of one pointer per tensor, the sizes of the tensors, numbers, the greatest number of threads, and the sums of every tensor.
extern "C" {

// out (count, 2) = <D, g>, |g|^2.
void mechanic_products(int count, float* const* directions, float* const* gradients, const int64_t* sizes, int threads, double* out) {
  spread(count, sizes, threads, 2, out,
         [&](int t, int64_t start, int64_t n, double* sums) { products(directions[t] + start, gradients[t] + start, n, sums); });
}

// D -= decay x, x = x_ref + scale D, with a decay for every tensor; out (count, 2) = <D, x>, |x|^2.
void mechanic_place(int count, float* const* directions, float* const* references, float* const* values, const int64_t* sizes, const double* decays,
                    double scale, int threads, double* out) {
  spread(count, sizes, threads, 2, out, [&](int t, int64_t start, int64_t n, double* sums) {
    place(directions[t] + start, references[t] + start, values[t] + start, n, static_cast<float>(scale), static_cast<float>(decays[t]), sums);
  });
}

// A step of Adam on D, then x = x_ref + scale D; out (count, 2) = <D, x>, |x|^2. numbers are the first six of Adam, lengths and roots one for every tensor.
void mechanic_adam_place(int count, float* const* gradients, float* const* firsts, float* const* seconds, float* const* directions,
                         float* const* references, float* const* values, const int64_t* sizes, const double* numbers, const double* lengths,
                         const double* roots, double scale, int threads, double* out) {
  spread(count, sizes, threads, 2, out, [&](int t, int64_t i, int64_t n, double* sums) {
    const Adam a = {static_cast<float>(numbers[0]), static_cast<float>(numbers[1]), static_cast<float>(numbers[2]), static_cast<float>(numbers[3]),
                    static_cast<float>(numbers[4]), static_cast<float>(numbers[5]), static_cast<float>(lengths[t]), static_cast<float>(roots[t])};
    adam_place(gradients[t] + i, firsts[t] + i, seconds[t] + i, directions[t] + i, references[t] + i, values[t] + i, n, a, static_cast<float>(scale), sums);
  });
}

// A step of every tensor, in place. bettors and steps have a place in memory per tensor; numbers = momentum, decay of the second moment, epsilon, weight
// decay, decay of s, stake, unit of a step, steps in which that unit grows. Returns 0, and changes nothing, if a gradient is not finite.
int mechanic_relative_step(int count, float* const* gradients, float* const* values, float* const* directions, float* const* seconds,
                           float* const* averages, float* const* references, double* const* bettors, double* const* steps, const int64_t* sizes,
                           const double* numbers, const double* betas, int bettor_count, int threads) {
  const Numbers c = {static_cast<float>(numbers[0]), static_cast<float>(numbers[1]), static_cast<float>(numbers[2]), static_cast<float>(numbers[3])};
  const double decay = numbers[1], s_decay = numbers[4], stake = numbers[5], unit = numbers[6], growth = numbers[7];
  std::vector<double> corrections(count), found(static_cast<size_t>(count) * 5), lengths(count), scales(count);
  for (int t = 0; t < count; ++t) corrections[t] = 1.0 / (1.0 - std::pow(decay, *steps[t] + 1.0));
  spread(count, sizes, threads, 5, found.data(), [&](int t, int64_t i, int64_t n, double* sums) {
    relative_sums(gradients[t] + i, values[t] + i, directions[t] + i, seconds[t] + i, n, static_cast<float>(corrections[t]), c, sums);
  });
  if (!std::all_of(found.begin(), found.end(), [](double sum) { return std::isfinite(sum); })) return 0;
  for (int t = 0; t < count; ++t) {
    const double* sums = &found[static_cast<size_t>(t) * 5];
    const double gg = sums[0], yy = sums[1], dg = sums[2], dy = sums[3], uu = sums[4];
    Bettors own(bettors[t], bettor_count);
    // h = <D, g> + lambda S |g| / |y| <D, y>
    const double h = dg + s_decay * own.stake() * std::sqrt(gg / std::max(yy, kTiny)) * dy;
    own.bet(h, betas, stake, *steps[t] == 0.0);
    scales[t] = own.stake();
    const double grown = unit * std::min(1.0, (*steps[t] + 1.0) / growth);
    lengths[t] = -grown / std::max(1.0, std::sqrt(uu / static_cast<double>(std::max<int64_t>(1, sizes[t]))));
    *steps[t] += 1.0;
  }
  spread(count, sizes, threads, 0, nullptr, [&](int t, int64_t i, int64_t n, double*) {
    relative_move(gradients[t] + i, values[t] + i, directions[t] + i, seconds[t] + i, averages[t] + i, references[t] + i, n,
                  static_cast<float>(corrections[t]), static_cast<float>(lengths[t]), static_cast<float>(1.0 / *steps[t]),
                  static_cast<float>(scales[t]), c);
  });
  return 1;
}
}
