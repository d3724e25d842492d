// The next piece of the arm's way with the way to rest behind it, judged by every limit: safety/limiter.py, motion.py and clearance.py in compiled code.
//
// Every comparison with a limit is one that fails for what is no number: where anything of a way is not finite, its speeds are not, and it is never taken.

#include "arm.h"

using namespace arm;

// As safety/compiled_motion.py lays it out; what the numbers are is said there.
struct Cell {
  Chain chain;
  double lower[kJoints], upper[kJoints], fastest[kJoints], offset[kJoints], deceleration[kJoints], approach[kJoints], speed[kJoints];
  double workspace_low[3], workspace_high[3];
  double margin, acceleration, tool_speed, clearance, table;
  double period, piece_periods, follow_periods, stop_deceleration, ramp, shortest, approach_seconds, step, tolerance;
  const double* spheres;  // x, y, z in its frame, radius
  const int* sphere_frames;
  const double* boxes;  // low and high corner
  int sphere_count, box_count, has_table;
};

namespace {

constexpr int kShares = 8;  // of the time between two points that are looked at: SHARES_BETWEEN in safety/motion.py
constexpr int kPoints = 4;  // of a trajectory at most

// In the order of their names in safety/compiled_motion.py.
enum Limit { kPosition = 1, kVelocity = 2, kAcceleration = 4, kJerk = 8, kWorkspace = 16, kTable = 32, kKeepOut = 64, kToolSpeed = 128 };

struct Way {
  int points = 0;
  double times[kPoints], positions[kPoints][kJoints], velocities[kPoints][kJoints];

  void write(double* out) const {
    out = std::copy(times, times + points, out);
    out = std::copy(positions[0], positions[0] + points * kJoints, out);
    std::copy(velocities[0], velocities[0] + points * kJoints, out);
  }
};

// Where the next piece of a way begins.
struct Start {
  double q[kJoints], v[kJoints], a[kJoints];

  explicit Start(const double* state) {
    std::copy(state, state + kJoints, q);
    std::copy(state + kJoints, state + 2 * kJoints, v);
    std::copy(state + 2 * kJoints, state + 3 * kJoints, a);
  }
};

// The next piece: safety/limiter.py.

// Speed that is allowed so far from a position limit.
double velocity_bound(const Cell& cell, int joint, double deceleration, double distance) {
  return clamped(std::sqrt(2.0 * deceleration * std::max(distance, 0.0)) - cell.offset[joint], 0.0, cell.fastest[joint]);
}

// The wish, scaled towards zero until every joint may go so fast.
int allow(const Cell& cell, const double* q, const double* v, double* wish) {
  double near[kJoints], bound[kJoints];
  int limited = 0;
  for (int k = 0; k < kJoints; ++k) {
    const double ahead = q[k] + cell.period * v[k];
    const double distance = std::max(wish[k] > 0.0 ? cell.upper[k] - cell.margin - ahead : ahead - cell.lower[k] - cell.margin, 0.0);
    const double fast = std::min(cell.speed[k], velocity_bound(cell, k, cell.approach[k], distance));
    near[k] = distance / cell.approach_seconds;
    bound[k] = std::min(near[k], fast);
    if (std::fabs(wish[k]) > near[k]) limited |= kPosition;
    if (std::fabs(wish[k]) > fast) limited |= kVelocity;
  }
  double scale = 1.0;
  for (int k = 0; k < kJoints; ++k)
    if (std::fabs(wish[k]) > bound[k]) scale = std::min(scale, bound[k] / std::fabs(wish[k]));
  if (limited)
    for (int k = 0; k < kJoints; ++k) wish[k] *= scale;
  return limited;
}

int accelerate(const Cell& cell, const double* q, const double* v, const double* a, double* wish, double* next) {
  int limited = allow(cell, q, v, wish);
  for (int k = 0; k < kJoints; ++k) next[k] = (wish[k] - v[k]) / (cell.follow_periods * cell.period);
  const double most = largest(next, kJoints);
  if (most > cell.acceleration) {
    for (int k = 0; k < kJoints; ++k) next[k] *= cell.acceleration / most;
    limited |= kAcceleration;
  }
  for (int k = 0; k < kJoints; ++k) {
    const double change = next[k] - a[k];
    if (std::fabs(change) > cell.step) limited |= kJerk;
    next[k] = a[k] + clamped(change, -cell.step, cell.step);
  }
  return limited;
}

// Appends a piece of linear acceleration to the way, and moves the start to its end.
void append(Way& way, double seconds, Start& from, const double* next) {
  const int point = way.points++;
  way.times[point] = seconds + (point ? way.times[point - 1] : 0.0);
  for (int k = 0; k < kJoints; ++k) {
    way.positions[point][k] = from.q[k] += seconds * from.v[k] + seconds * seconds * (2.0 * from.a[k] + next[k]) / 6.0;
    way.velocities[point][k] = from.v[k] += 0.5 * seconds * (from.a[k] + next[k]);
    from.a[k] = next[k];
  }
}

// The way to rest: all joints come to rest at the same time.
void append_stop(const Cell& cell, Way& way, Start& from) {
  double left[kJoints], constant[kJoints];
  const double zero[kJoints] = {};
  for (int k = 0; k < kJoints; ++k) left[k] = from.v[k] + 0.5 * cell.ramp * from.a[k];
  double hold = largest(left, kJoints) / cell.stop_deceleration - cell.ramp;
  if (hold < cell.shortest) hold = cell.shortest;
  for (int k = 0; k < kJoints; ++k) constant[k] = -left[k] / (hold + cell.ramp);
  append(way, cell.ramp, from, constant);
  append(way, hold, from, constant);
  append(way, cell.ramp, from, zero);
  std::fill(way.velocities[way.points - 1], way.velocities[way.points - 1] + kJoints, 0.0);  // exactly
}

// Whether a way keeps every limit: safety/motion.py and clearance.py.

struct Margins {
  double workspace, table, keep_out;
};

double outside(const double* point, const double* low, const double* high) {
  double square = 0.0, inside = -INFINITY;
  for (int i = 0; i < 3; ++i) {
    const double beyond = std::max(low[i] - point[i], point[i] - high[i]);
    square += std::max(beyond, 0.0) * std::max(beyond, 0.0);
    inside = std::max(inside, beyond);
  }
  return std::sqrt(square) + std::min(inside, 0.0);
}

Margins margins(const Cell& cell, const double* q) {
  Frame frames[kFrames];
  poses(cell.chain, q, frames);
  Margins found{INFINITY, INFINITY, INFINITY};
  for (int i = 0; i < 3; ++i) {
    const double place = frames[kJoints][4 * i + 3];
    found.workspace = std::min({found.workspace, place - cell.workspace_low[i], cell.workspace_high[i] - place});
  }
  for (int sphere = 0; sphere < cell.sphere_count; ++sphere) {
    const double* s = cell.spheres + 4 * sphere;
    const double* f = frames[cell.sphere_frames[sphere]];
    double centre[3];
    for (int i = 0; i < 3; ++i) centre[i] = f[4 * i] * s[0] + f[4 * i + 1] * s[1] + f[4 * i + 2] * s[2] + f[4 * i + 3];
    found.table = std::min(found.table, centre[2] - s[3]);
    for (int box = 0; box < cell.box_count; ++box)
      found.keep_out = std::min(found.keep_out, outside(centre, cell.boxes + 6 * box, cell.boxes + 6 * box + 3) - s[3]);
  }
  found.table -= cell.table + cell.clearance;
  found.keep_out -= cell.clearance;
  return found;
}

// Positions and velocities along the cubic between two points, at a share of its time.
void between(double share, double length, const double* p0, const double* p1, const double* v0, const double* v1, double* at, double* speed) {
  for (int k = 0; k < kJoints; ++k) {
    const double from = v0[k] * length, to = v1[k] * length, way = p1[k] - p0[k];
    const double curve = 3.0 * way - 2.0 * from - to, bend = from + to - 2.0 * way;
    at[k] = p0[k] + share * (from + share * (curve + share * bend));
    speed[k] = (from + share * (2.0 * curve + 3.0 * share * bend)) / length;
  }
}

struct Sample {
  double at[kJoints], speed[kJoints];
};

int too_close(const Cell& cell, const double* q, const Sample (*samples)[kShares], int segments) {
  const Margins start = margins(cell, q);
  // Inside a box distances turn at once where another wall becomes the nearest.
  const bool inside = start.workspace < 0.0 || (cell.has_table && start.table < 0.0) || (cell.box_count && start.keep_out < 0.0);
  int broken = 0;
  auto compare = [&](double margin, double first, int limit) {
    if (!(margin >= std::min(first, 0.0) - cell.tolerance)) broken |= limit;
  };
  for (int segment = 0; segment < segments; ++segment) {
    for (int share = inside ? 0 : kShares / 2 - 1; share < kShares; share += inside ? 1 : kShares / 2) {
      const Margins found = margins(cell, samples[segment][share].at);
      compare(found.workspace, start.workspace, kWorkspace);
      if (cell.has_table) compare(found.table, start.table, kTable);
      if (cell.box_count) compare(found.keep_out, start.keep_out, kKeepOut);
    }
  }
  return broken;
}

double beyond(const Cell& cell, const double* q) {
  double found = -INFINITY;
  for (int k = 0; k < kJoints; ++k) found = std::max({found, cell.lower[k] + cell.margin - q[k], q[k] - cell.upper[k] + cell.margin});
  return found;
}

int too_fast(const Cell& cell, const double* v, const Sample (*samples)[kShares], int segments) {
  for (int segment = 0; segment < segments; ++segment) {
    for (int share = 0; share < kShares; ++share) {
      const Sample& sample = samples[segment][share];
      for (int k = 0; k < kJoints; ++k) {
        const double high = velocity_bound(cell, k, cell.deceleration[k], cell.upper[k] - sample.at[k]);
        const double low = velocity_bound(cell, k, cell.deceleration[k], sample.at[k] - cell.lower[k]);
        if (!(sample.speed[k] <= std::max(high, v[k]) + cell.tolerance && sample.speed[k] >= std::min(-low, v[k]) - cell.tolerance)) return kVelocity;
      }
    }
  }
  return 0;
}

// Of the piece, and while its acceleration turns into that of the stop.
int tool_too_fast(const Cell& cell, const double* first, const Sample (*samples)[kShares]) {
  Frame frames[kFrames];
  double columns[kJoints][6];
  poses(cell.chain, first, frames);
  jacobian(frames, columns);
  for (int segment = 0; segment < 2; ++segment) {
    for (int share = 0; share < kShares; ++share) {
      double square = 0;
      for (int i = 0; i < 3; ++i) {
        double along = 0;
        for (int k = 0; k < kJoints; ++k) along += columns[k][i] * samples[segment][share].speed[k];
        square += along * along;
      }
      if (!(std::sqrt(square) <= cell.tool_speed)) return kToolSpeed;
    }
  }
  return 0;
}

// Limits that a way from q and v does not keep. Who is beyond one already may not go further.
int judge(const Cell& cell, const double* q, const double* v, const Way& way) {
  Sample samples[kPoints][kShares];
  for (int segment = 0; segment < way.points; ++segment) {
    const double* p0 = segment ? way.positions[segment - 1] : q;
    const double* v0 = segment ? way.velocities[segment - 1] : v;
    const double length = way.times[segment] - (segment ? way.times[segment - 1] : 0.0);
    for (int share = 0; share < kShares; ++share) {
      Sample& sample = samples[segment][share];
      between((share + 1.0) / kShares, length, p0, way.positions[segment], v0, way.velocities[segment], sample.at, sample.speed);
    }
  }
  int broken = too_close(cell, q, samples, way.points);
  const double allowed = std::max(beyond(cell, q), 0.0) + cell.tolerance;
  for (int point = 0; point < way.points; ++point)
    if (!(beyond(cell, way.positions[point]) <= allowed)) broken |= kPosition;
  return broken | too_fast(cell, v, samples, way.points) | tool_too_fast(cell, way.positions[0], samples);
}

}  // namespace

extern "C" {

// For who lays the numbers out, to see that both mean the same.
int way_size() { return sizeof(Cell); }

// state: positions, velocities and accelerations (3, 7) that the arm's controller desires now, then wished velocities (7,). out: times (P,), positions (P, 7)
// and velocities (P, 7) of the way.

// P = 4: the next piece towards share times the wish, and to rest. limits[0]: what held the wish back; limits[1]: what the way does not keep.
void way_next(const Cell* cell, const double* state, double share, double* out, int* limits) {
  Way way;
  Start start(state);
  double target[kJoints], next[kJoints];
  for (int k = 0; k < kJoints; ++k) target[k] = share * state[3 * kJoints + k];
  limits[0] = accelerate(*cell, start.q, start.v, start.a, target, next);
  std::copy(next, next + kJoints, start.a);
  append(way, cell->piece_periods * cell->period, start, next);
  append_stop(*cell, way, start);
  limits[1] = judge(*cell, state, state + kJoints, way);
  way.write(out);
}

// P = 3: the way to rest. Returns what it does not keep.
int way_stop(const Cell* cell, const double* state, double* out) {
  Way way;
  Start start(state);
  append_stop(*cell, way, start);
  way.write(out);
  return judge(*cell, state, state + kJoints, way);
}

}  // extern "C"
