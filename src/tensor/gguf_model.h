// A GGUF file as a model: the files of a Hugging Face checkpoint made from its metadata, and its tensors under the
// checkpoint's names. Rows of q and k that GGUF permutes are put back, and norm weights that it shifts.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>

#include "tensor/checkpoint.h"
#include "tensor/gguf.h"
#include "tensor/model_files.h"

namespace bittern {

/// config.json, generation_config.json, tokenizer.json and tokenizer_config.json, made when asked for.
class GgufModelFiles final : public ModelFiles {
 public:
  /// Parses the header. Errors are those of read_gguf.
  explicit GgufModelFiles(FileBytes file);

  const std::string& origin() const override { return file_.bytes.path; }
  std::vector<std::string> list() const override;
  std::optional<FileBytes> find(std::string_view name) const override;
  const GgufFile& gguf() const { return file_; }

 private:
  std::string make(std::string_view name) const;

  GgufFile file_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const std::string>, std::less<>> made_;
};

/// Maps a .gguf file. Error(not_found or io) when it cannot be read.
std::shared_ptr<const ModelFiles> open_gguf(const std::filesystem::path& path);
/// The tensors. `dense` decodes quantized types to f32; `linear` keeps them as they are. Error(unsupported) for a
/// tensor type that Bittern does not decode, by its name.
std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufModelFiles> files);

}  // namespace bittern
