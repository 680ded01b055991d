// Reasoning: the part of a reply in which a model thinks, between two marks, apart from what it answers. One row for
// each pair of marks. A template may have opened it already at the end of the prompt.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/tools/mark_finder.h"

namespace bittern::server {

struct ReasoningStyle {
  std::string_view name;
  std::vector<std::string_view> aliases;  // names that vLLM and LMDeploy give it
  std::string_view open, close;
};

const std::vector<ReasoningStyle>& reasoning_styles();
/// By --reasoning-parser: a name, an alias, "none" (null), or "auto": the first whose closing mark the template holds.
/// Error(invalid_argument) lists the names for one that is unknown.
const ReasoningStyle* find_reasoning_style(std::string_view name, std::string_view template_source);
/// Whether a prompt ends inside reasoning.
bool opens_reasoning(const ReasoningStyle& style, std::string_view prompt);

/// Splits text that comes piece by piece. White space around either part is left out: it belongs to the marks.
class ReasoningSplitter {
 public:
  ReasoningSplitter(const ReasoningStyle& style, bool open);
  struct Parts {
    std::string reasoning, content;
  };
  Parts push(std::string_view text);
  Parts finish();
  bool inside() const { return place_ == Place::inside; }

 private:
  enum class Place { before, inside, behind, content };

  void step(char byte, Parts& parts);
  void add_reasoning(std::string_view text, Parts& parts);

  MarkFinder open_, close_;
  Place place_;
  std::string space_;     // of the reasoning, held back: left out at its end
  bool started_ = false;  // the reasoning has a text
};

}  // namespace bittern::server
