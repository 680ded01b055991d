// One JSON line for every HTTP exchange, without any text of prompts or answers. A thread of its own writes them, so a
// slow or full disk never holds up a reply: lines that cannot be written are counted and dropped.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "base/queue.h"
#include "server/http/http_server.h"

namespace bittern::server {

class AccessLog {
 public:
  /// `file`: a path, appended to; "-" is standard error; empty: nothing is written. `failed` is called for every line
  /// that is lost. Error(io) when the file cannot be opened.
  AccessLog(const std::string& file, std::function<void()> failed);
  ~AccessLog();  // writes what is queued

  /// Never blocks.
  void add(const ExchangeRecord& record);
  /// Opens the file anew, for programs that rotate logs.
  void reopen();

 private:
  void open();
  void write_all();

  const std::string file_;
  const std::function<void()> failed_;
  BoundedQueue<std::string> lines_;
  std::mutex file_mutex_;
  int fd_ = -1;
  std::thread writer_;
};

/// The line of one exchange, its end included.
std::string access_line(const ExchangeRecord& record, std::int64_t unix_milliseconds);

}  // namespace bittern::server
