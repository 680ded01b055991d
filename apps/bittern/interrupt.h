// Ctrl-C as a flag that a streaming loop looks at, so that it ends a reply and not the program.
#pragma once

#include <csignal>

namespace bittern::cli {

/// From construction to destruction SIGINT sets the flag instead of ending the program. Guards nest: the inner one
/// starts with the flag cleared and gives the signal back to the outer one.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const;

 private:
  struct sigaction previous_ = {};
};

}  // namespace bittern::cli
