// Names that come out of files, made safe to print: a hostile name must not end a message early or steer a terminal.
#pragma once

#include <string>
#include <string_view>

namespace bittern {

/// 'name' in single quotes; control characters appear as \xNN, and a very long name is cut.
std::string quote_name(std::string_view name);

}  // namespace bittern
