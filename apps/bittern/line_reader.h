// LineReader: lines for the chat, with editing and history on a terminal and plain reading from a pipe.
#pragma once

#include <optional>
#include <string>

namespace bittern::cli {

class LineReader {
 public:
  /// `history_file` empty: history lives as long as the program.
  explicit LineReader(std::string history_file);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// True when a person sits at the terminal, so prompts make sense.
  bool interactive() const { return interactive_; }
  /// The next line without its end; nullopt at end of input. A Ctrl-C at the prompt gives an empty line.
  std::optional<std::string> read(const std::string& prompt);

 private:
  bool interactive_;
  std::string history_file_;
};

}  // namespace bittern::cli
