// Joint velocities that move the tool: safety/servo.py in compiled code.

#include "arm.h"

using namespace arm;

// As safety/compiled_servo.py lays it out; what the numbers are is said there.
struct Servo {
  Chain chain;
  double low[3], high[3], home[kJoints];
  double wall_seconds, damping, singular, posture_gain, posture_speed, upright_gain, upright_speed;
};

namespace {

constexpr double kNothing = 1e-12;  // singular value below which a direction counts as none

// One-sided Jacobi (Hestenes 1958) on the transposed Jacobian: afterwards its columns (7,) are orthogonal, of the length of the singular values; left gathers
// the rotations.
void orthogonalise(double columns[6][kJoints], double left[6][6]) {
  for (int i = 0; i < 6; ++i)
    for (int j = 0; j < 6; ++j) left[i][j] = i == j;
  for (int sweep = 0; sweep < 30; ++sweep) {
    bool done = true;
    for (int p = 0; p < 5; ++p) {
      for (int q = p + 1; q < 6; ++q) {
        double pp = 0, qq = 0, pq = 0;
        for (int k = 0; k < kJoints; ++k) {
          pp += columns[p][k] * columns[p][k];
          qq += columns[q][k] * columns[q][k];
          pq += columns[p][k] * columns[q][k];
        }
        if (!(std::fabs(pq) > 1e-15 * std::sqrt(pp * qq))) continue;
        done = false;
        const double ratio = (qq - pp) / (2.0 * pq);
        const double t = (ratio >= 0 ? 1.0 : -1.0) / (std::fabs(ratio) + std::sqrt(1.0 + ratio * ratio));
        const double c = 1.0 / std::sqrt(1.0 + t * t), s = c * t;
        auto rotate = [&](double* a, double* b, int count) {
          for (int k = 0; k < count; ++k) {
            const double x = a[k], y = b[k];
            a[k] = c * x - s * y;
            b[k] = s * x + c * y;
          }
        };
        rotate(columns[p], columns[q], kJoints);
        rotate(left[p], left[q], 6);
      }
    }
    if (done) return;
  }
}

void solve(const Servo& servo, const double jacobian_columns[kJoints][6], const double* twist, const double* posture, double* out) {
  double right[6][kJoints], left[6][6], values[6];
  for (int i = 0; i < 6; ++i)
    for (int k = 0; k < kJoints; ++k) right[i][k] = jacobian_columns[k][i];
  orthogonalise(right, left);
  for (int i = 0; i < 6; ++i) {
    double square = 0;
    for (int k = 0; k < kJoints; ++k) square += right[i][k] * right[i][k];
    values[i] = std::sqrt(square);
  }
  const double smallest = *std::min_element(values, values + 6) / servo.singular;
  const double near = std::max(0.0, 1.0 - smallest * smallest) * servo.damping * servo.damping;
  std::copy(posture, posture + kJoints, out);  // of which only what leaves the tool where it is stays
  for (int i = 0; i < 6; ++i) {
    if (values[i] < kNothing) continue;
    double along = 0, elbow = 0;
    for (int k = 0; k < 6; ++k) along += left[i][k] * twist[k];
    for (int k = 0; k < kJoints; ++k) elbow += right[i][k] * posture[k];
    const double inverse = along / (values[i] * values[i] + near), taken = elbow / (values[i] * values[i]);
    for (int k = 0; k < kJoints; ++k) out[k] += (inverse - taken) * right[i][k];
  }
}

// Angular velocity that turns the hand back to pointing down.
void upright(const Servo& servo, const double* tcp, double* out) {
  // error = diag(1, -1, -1) rotation^T; of it the antisymmetric part.
  auto error = [&](int i, int j) { return (i == 0 ? 1.0 : -1.0) * tcp[4 * j + i]; };
  const double axis[3] = {error(2, 1) - error(1, 2), error(0, 2) - error(2, 0), error(1, 0) - error(0, 1)};
  double square = 0;
  for (int i = 0; i < 3; ++i) {
    out[i] = 0.5 * servo.upright_gain * axis[i];
    square += out[i] * out[i];
  }
  const double divisor = std::max(1.0, std::sqrt(square) / servo.upright_speed);
  for (int i = 0; i < 3; ++i) out[i] /= divisor;
}

}  // namespace

extern "C" {

// For who lays the numbers out, to see that both mean the same.
int servo_size() { return sizeof(Servo); }

// Joint velocities that move the tool with velocity (3,) and spin (3,), or upright where spin is null. Returns whether the workspace held it back.
int servo_joint_velocity(const Servo* servo, const double* q, const double* velocity, const double* spin, double* out) {
  Frame frames[kFrames];
  double columns[kJoints][6], twist[6], posture[kJoints];
  poses(servo->chain, q, frames);
  jacobian(frames, columns);
  int limited = 0;
  for (int i = 0; i < 3; ++i) {
    const double place = frames[kJoints][4 * i + 3];
    const double lowest = std::min(servo->low[i] - place, 0.0) / servo->wall_seconds;
    const double highest = std::max(servo->high[i] - place, 0.0) / servo->wall_seconds;
    twist[i] = clamped(velocity[i], lowest, highest);
    if (!(twist[i] == velocity[i])) limited = 1;
  }
  if (spin) {
    std::copy(spin, spin + 3, twist + 3);
  } else {
    upright(*servo, frames[kJoints], twist + 3);
  }
  for (int k = 0; k < kJoints; ++k) posture[k] = clamped(servo->posture_gain * (servo->home[k] - q[k]), -servo->posture_speed, servo->posture_speed);
  solve(*servo, columns, twist, posture, out);
  return limited;
}

}  // extern "C"
