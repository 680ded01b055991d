// Calls into the Rust bridge from C++: owning wrappers for what it returns, and its errors as bittern::Error.
// Private to src/text. It declares no function of the bridge itself; bridge/bridge.h does.
#pragma once

#include <bittern/error.h>

#include <string>
#include <string_view>
#include <utility>

#include "text/bridge/bridge.h"

namespace bittern::text {

inline BridgeSlice slice(std::string_view text) { return {text.data(), text.size()}; }

inline void free_owned(BridgeBytes value) { bittern_bridge_free_bytes(value); }
inline void free_owned(BridgeIds value) { bittern_bridge_free_ids(value); }
inline void free_owned(BridgeRanges value) { bittern_bridge_free_ranges(value); }

/// One array that the bridge allocated.
template <class T>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { free_owned(value_); }

  T* out() { return &value_; }
  size_t size() const { return value_.size; }
  auto* begin() const { return value_.data; }
  auto* end() const { return value_.data + value_.size; }

 private:
  T value_{};
};

inline std::string to_string(const Owned<BridgeBytes>& bytes) {
  return bytes.size() == 0 ? std::string() : std::string(bytes.begin(), bytes.size());
}

/// What the bridge said: the class of the error and its message.
struct BridgeFailure {
  std::string kind;
  std::string message;
};

/// Calls `function(args..., error)`. Returns nothing on success, else what went wrong.
template <class Function, class... Args>
std::pair<bool, BridgeFailure> try_bridge(Function function, Args... args) {
  Owned<BridgeBytes> error;
  if (function(args..., error.out())) return {true, {}};
  const std::string text = to_string(error);
  const size_t colon = text.find(": ");
  if (colon == std::string::npos) return {false, {"Error", text}};
  return {false, {text.substr(0, colon), text.substr(colon + 2)}};
}

/// As try_bridge, but a failure is thrown: Error(`code`) "<what>: <message>", or Error(internal) after a panic.
template <class Function, class... Args>
void call_bridge(ErrorCode code, std::string_view what, Function function, Args... args) {
  const auto [done, failure] = try_bridge(function, args...);
  if (done) return;
  if (failure.kind == "Panic") code = ErrorCode::internal;
  throw Error(code, std::string(what) + ": " + failure.message);
}

}  // namespace bittern::text
