// Marks are short and few, so that comparing each with what is held is all it takes.
#include "server/tools/mark_finder.h"

#include <algorithm>

namespace bittern::server {

bool MarkFinder::may_become_mark() const {
  return std::any_of(marks_.begin(), marks_.end(), [&](const std::string& mark) { return mark.starts_with(held_); });
}

int MarkFinder::push(char byte, std::string& out) {
  held_ += byte;
  while (!held_.empty() && !may_become_mark()) {
    out += held_.front();
    held_.erase(0, 1);
  }
  const auto found = std::find(marks_.begin(), marks_.end(), held_);
  if (held_.empty() || found == marks_.end()) return -1;
  held_.clear();
  return static_cast<int>(found - marks_.begin());
}

}  // namespace bittern::server
