// Names of replies, calls and blocks: a prefix that says of what, and letters that nobody can guess or meet twice.
#pragma once

#include <string>
#include <string_view>

namespace bittern::server {

/// "msg_" -> "msg_9f2c...": 24 hexadecimal digits.
std::string random_id(std::string_view prefix);

}  // namespace bittern::server
