package com.google.ai.edge.litert;

public final class BuiltinNpuAcceleratorProvider implements NpuAcceleratorProvider {
    public BuiltinNpuAcceleratorProvider(android.content.Context context) {}
}
