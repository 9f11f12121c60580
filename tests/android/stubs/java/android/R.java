package android;

public final class R { public static final class string { public static final int cancel = 17039360; } public static final class layout { public static final int simple_spinner_dropdown_item = 17367049; } }
