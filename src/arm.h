// The arm as a chain of joints, for the two compiled parts of what the command node computes in every period (servo.cpp, way.cpp). Python has the same in
// numpy, which explains it, and acts where these are not built; tests compare the two. Plain C interfaces that Python loads with ctypes; all numbers come
// from there. Nothing here takes a number for finite.

#pragma once

#include <algorithm>
#include <cmath>

namespace arm {

constexpr int kJoints = 7;
constexpr int kFrames = 8;  // of the joints, and the tool centre point

using Frame = double[12];  // rows of rotation and position

struct Chain {
  double origins[kJoints][16];  // pose of every joint in the frame of the one before it
  double tool[16];
};

inline double clamped(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

// The largest size, or no number if one is none.
inline double largest(const double* values, int count) {
  double found = 0.0;
  for (int k = 0; k < count; ++k) {
    const double size = std::fabs(values[k]);
    if (!(size <= found)) found = size;
    if (std::isnan(size)) return size;
  }
  return found;
}

inline void compose(const double* a, const double* b, double* out) {
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) out[4 * i + j] = a[4 * i] * b[j] + a[4 * i + 1] * b[4 + j] + a[4 * i + 2] * b[8 + j] + (j == 3 ? a[4 * i + 3] : 0.0);
}

inline void poses(const Chain& chain, const double* q, Frame* frames) {
  for (int joint = 0; joint < kJoints; ++joint) {
    const double c = std::cos(q[joint]), s = std::sin(q[joint]);
    const double* o = chain.origins[joint];
    Frame turned;
    for (int i = 0; i < 3; ++i) {
      turned[4 * i] = c * o[4 * i] + s * o[4 * i + 1];
      turned[4 * i + 1] = c * o[4 * i + 1] - s * o[4 * i];
      turned[4 * i + 2] = o[4 * i + 2];
      turned[4 * i + 3] = o[4 * i + 3];
    }
    if (joint == 0) {
      std::copy(turned, turned + 12, frames[0]);
    } else {
      compose(frames[joint - 1], turned, frames[joint]);
    }
  }
  compose(frames[kJoints - 1], chain.tool, frames[kJoints]);
}

inline void cross(const double* a, const double* b, double* out) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

// Columns of the Jacobian: linear over angular velocity of the tool centre point.
inline void jacobian(const Frame* frames, double columns[kJoints][6]) {
  for (int joint = 0; joint < kJoints; ++joint) {
    const double* frame = frames[joint];
    double arm[3];
    for (int i = 0; i < 3; ++i) {
      columns[joint][3 + i] = frame[4 * i + 2];
      arm[i] = frames[kJoints][4 * i + 3] - frame[4 * i + 3];
    }
    cross(columns[joint] + 3, arm, columns[joint]);
  }
}

}  // namespace arm
