// Lines are made by the thread that reports, and written whole with one system call each.
#include "server/access_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/json.h"
#include "base/os_error.h"

namespace bittern::server {
namespace {

constexpr std::size_t kQueuedLines = 8192;

std::int64_t now_in_milliseconds() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

bool write_whole(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

std::string access_line(const ExchangeRecord& record, std::int64_t unix_milliseconds) {
  const std::time_t second = unix_milliseconds / 1000;
  OrderedJson line = {
      {"time", fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(second), unix_milliseconds % 1000)},
      {"request_id", record.id},
      {"client", record.client},
      {"method", record.method},
      {"route", record.route},
      {"path", record.path},
      {"status", record.status},
      {"complete", record.complete},
      {"bytes_in", record.bytes_in},
      {"bytes_out", record.bytes_out},
      {"seconds", record.seconds}};
  if (!record.traceparent.empty()) line["traceparent"] = record.traceparent;
  return line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

AccessLog::AccessLog(const std::string& file, std::function<void()> failed)
    : file_(file), failed_(std::move(failed)), lines_(kQueuedLines) {
  if (file_.empty()) return;
  open();
  writer_ = std::thread([this] { write_all(); });
}

AccessLog::~AccessLog() {
  lines_.close();
  if (writer_.joinable()) writer_.join();
  if (fd_ > STDERR_FILENO) ::close(fd_);
}

void AccessLog::open() {
  const int fd = file_ == "-" ? STDERR_FILENO : ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) throw_os_error("open", file_, errno);
  const std::lock_guard lock(file_mutex_);
  if (fd_ > STDERR_FILENO) ::close(fd_);
  fd_ = fd;
}

void AccessLog::reopen() {
  if (!file_.empty()) open();
}

void AccessLog::add(const ExchangeRecord& record) {
  if (file_.empty()) return;
  if (!lines_.try_push(access_line(record, now_in_milliseconds()))) failed_();
}

void AccessLog::write_all() {
  while (const auto line = lines_.pop()) {
    const std::lock_guard lock(file_mutex_);
    if (!write_whole(fd_, *line)) failed_();
  }
}

}  // namespace bittern::server
