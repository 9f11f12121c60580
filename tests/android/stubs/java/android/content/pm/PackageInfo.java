package android.content.pm;

import org.jetbrains.annotations.Nullable;

public class PackageInfo { public @Nullable String versionName; }
