// Module conventions: a block lists its parts once, in visit(), under the names the checkpoint uses. Loading, counting
// parameters, quantizing and showing a model are Visitors over that one list, so no table of names exists elsewhere.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace bittern::nn {

class Linear;
class RmsNorm;
class Embedding;

/// Receives every leaf of a model with its full checkpoint name ("model.layers.0.self_attn.q_proj").
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void linear(const std::string& name, Linear& linear) = 0;
  virtual void norm(const std::string& name, RmsNorm& norm) = 0;
  virtual void embedding(const std::string& name, Embedding& embedding) = 0;
};

/// What visit() functions call: `scope("self_attn", self_attn_)` descends or reports a leaf.
class Scope {
 public:
  Scope(Visitor& visitor, std::string prefix) : visitor_(visitor), prefix_(std::move(prefix)) {}

  void operator()(std::string_view name, Linear& part) { visitor_.linear(join(name), part); }
  void operator()(std::string_view name, RmsNorm& part) { visitor_.norm(join(name), part); }
  void operator()(std::string_view name, Embedding& part) { visitor_.embedding(join(name), part); }
  template <class Block>
  requires requires(Block& block, Scope& scope) { block.visit(scope); }
  void operator()(std::string_view name, Block& block) {
    Scope inner(visitor_, join(name));
    block.visit(inner);
  }

 private:
  std::string join(std::string_view name) const {
    return prefix_.empty() || name.empty() ? prefix_ + std::string(name) : prefix_ + "." + std::string(name);
  }

  Visitor& visitor_;
  std::string prefix_;
};

}  // namespace bittern::nn
