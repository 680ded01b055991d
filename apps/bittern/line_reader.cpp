// Line editing by libedit, through its readline interface (BSD licence, unlike readline's).
#include "line_reader.h"

#include <editline/readline.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>

namespace bittern::cli {

LineReader::LineReader(std::string history_file)
    : interactive_(isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0), history_file_(std::move(history_file)) {
  if (!interactive_) return;
  std::setlocale(LC_CTYPE, "");  // libedit moves by characters, not bytes
  using_history();
  stifle_history(1000);
  if (!history_file_.empty()) read_history(history_file_.c_str());
}

LineReader::~LineReader() {
  if (interactive_ && !history_file_.empty()) write_history(history_file_.c_str());
}

std::optional<std::string> LineReader::read(const std::string& prompt) {
  if (!interactive_) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  errno = 0;
  const std::unique_ptr<char, decltype(&std::free)> line(readline(prompt.c_str()), &std::free);
  if (!line && errno == EINTR) {
    std::fputc('\n', stdout);
    return std::string();
  }
  if (!line) return std::nullopt;
  if (*line) add_history(line.get());
  return std::string(line.get());
}

}  // namespace bittern::cli
