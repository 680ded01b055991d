// MarkedJsonParser: calls as JSON objects between an opening and a closing mark. A block that holds no call comes out
// as content, without its marks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/tools/content_out.h"
#include "server/tools/json_call.h"
#include "server/tools/mark_finder.h"

namespace bittern::server {

class MarkedJsonParser final : public ToolParser {
 public:
  struct Marks {
    std::vector<std::string> open;   // any of these
    std::string close;               // empty: the text's end
    std::vector<std::string> plain;  // these open blocks that hold no calls but text
  };
  explicit MarkedJsonParser(Marks marks);

  void push(std::string_view text, ToolSink& sink) override;
  void finish(ToolSink& sink) override;

 private:
  enum class Place { content, block, call, plain };

  void step(char byte, ToolSink& sink);
  void step_outside(char byte, ToolSink& sink);
  void step_call(char byte, ToolSink& sink);
  void give_back(ToolSink& sink);

  std::size_t opening_;  // marks before this index open a block with calls
  std::size_t closing_;  // from this index on they close one
  MarkFinder finder_;
  ContentOut content_;
  Place place_ = Place::content;
  std::optional<JsonCall> call_;
  int calls_ = 0;
};

}  // namespace bittern::server
