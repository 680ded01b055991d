// Reasoning comes first in a reply or not at all, so that the mark in the middle of an answer is only text.
#include "server/generation/reasoning.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>

#include "base/strings.h"

namespace bittern::server {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

bool is_called(const ReasoningStyle& style, std::string_view name) {
  return style.name == name || std::find(style.aliases.begin(), style.aliases.end(), name) != style.aliases.end();
}

}  // namespace

const std::vector<ReasoningStyle>& reasoning_styles() {
  static const std::vector<ReasoningStyle> styles = {
      {"think", {"default", "deepseek-r1", "deepseek_r1", "qwen3", "qwen-qwq", "intern-s1"}, "<think>", "</think>"},
      {"seed", {"seed_oss"}, "<seed:think>", "</seed:think>"},
      {"mistral", {}, "[THINK]", "[/THINK]"},
  };
  return styles;
}

const ReasoningStyle* find_reasoning_style(std::string_view name, std::string_view template_source) {
  if (name == "none") return nullptr;
  std::vector<std::string> names = {"auto", "none"};
  for (const ReasoningStyle& style : reasoning_styles()) {
    const bool taught = template_source.find(style.close) != std::string_view::npos ||
                        template_source.find(style.open) != std::string_view::npos;
    if (name == "auto" ? taught : is_called(style, name)) return &style;
    names.emplace_back(style.name);
  }
  if (name == "auto") return nullptr;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("--reasoning-parser is '{}', but must be one of: {}", name, join(names, ", ")),
              did_you_mean(name, names));
}

bool opens_reasoning(const ReasoningStyle& style, std::string_view prompt) {
  return trim(prompt).ends_with(style.open);
}

ReasoningSplitter::ReasoningSplitter(const ReasoningStyle& style, bool open)
    : open_({std::string(style.open)}),
      close_({std::string(style.close)}),
      place_(open ? Place::inside : Place::before) {}

ReasoningSplitter::Parts ReasoningSplitter::push(std::string_view text) {
  Parts parts;
  for (char byte : text) step(byte, parts);
  return parts;
}

void ReasoningSplitter::step(char byte, Parts& parts) {
  std::string text;
  switch (place_) {
    case Place::before:
      if (open_.push(byte, text) == 0) {
        place_ = Place::inside;
        space_.clear();
      } else if (std::all_of(text.begin(), text.end(), is_space)) {
        space_ += text;
      } else {
        parts.content += std::exchange(space_, {}) + text + open_.take();
        place_ = Place::content;
      }
      return;
    case Place::inside:
      if (close_.push(byte, text) == 0) place_ = Place::behind;
      add_reasoning(text, parts);
      return;
    case Place::behind:
      if (is_space(byte)) return;
      place_ = Place::content;
      [[fallthrough]];
    case Place::content: parts.content += byte; return;
  }
}

void ReasoningSplitter::add_reasoning(std::string_view text, Parts& parts) {
  for (char c : text) {
    if (is_space(c)) {
      if (started_) space_ += c;
      continue;
    }
    parts.reasoning += std::exchange(space_, {}) + c;
    started_ = true;
  }
}

ReasoningSplitter::Parts ReasoningSplitter::finish() {
  Parts parts;
  if (place_ == Place::before) parts.content = space_ + open_.take();
  if (place_ == Place::inside) add_reasoning(close_.take(), parts);
  return parts;
}

}  // namespace bittern::server
