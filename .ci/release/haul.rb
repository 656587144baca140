# Filled in by .ci/release/manifests.
class Haul < Formula
  desc "Fetch files over many connections, resume them, never publish a wrong one"
  homepage "@PAGE@"
  version "@VERSION@"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    url "@PAGE@/haul-@VERSION@-universal-apple-darwin.tar.gz"
    sha256 "@SHA256:universal-apple-darwin@"
  end

  on_linux do
    on_intel do
      url "@PAGE@/haul-@VERSION@-x86_64-unknown-linux-musl.tar.gz"
      sha256 "@SHA256:x86_64-unknown-linux-musl@"
    end
    on_arm do
      url "@PAGE@/haul-@VERSION@-aarch64-unknown-linux-musl.tar.gz"
      sha256 "@SHA256:aarch64-unknown-linux-musl@"
    end
  end

  def install
    bin.install "haul"
    bin.install_symlink "haul" => "haul-aria2c"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/haul.bash" => "haul"
    zsh_completion.install "completions/_haul"
    fish_completion.install "completions/haul.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/haul --version")
    system bin/"haul", "demo"
  end
end
